#!/usr/bin/env python3
"""Makes the tables of docs/performance.md and the plot growth.svg from what `scale measure` and `scale claims` printed.

    docs/performance/report.py

Results of `scale measure` lie beside this script, one file a run: real-20000-1.txt is the first run on a real control plane with 20,000
sandboxes, memory-200000-2.txt the second one on the in-memory API server with 200,000. real_claimed and real_distinct
are the same as real, on sandboxes of `load --claimed-templates` and `load --distinct-templates`; previous is the same
as real, measured with an older version of the cache.

Results of `scale claims` lie in claims/: memory-1000-1.txt is the first run on the in-memory API server with a pool of
1,000. real3 and memory3 are the same with three managers.

Of several runs, the median counts. keys.txt says what the keys mean. `--check` writes nothing and fails when something
would change.
"""

import argparse
import re
import statistics
import sys
from pathlib import Path
from xml.sax.saxutils import escape

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / "performance.md"

# The column of each server and workload, in the order of the table.
SERVERS = {
    "previous": "kube-apiserver, previous version",
    "real": "kube-apiserver",
    "real_claimed": "kube-apiserver, claimed templates",
    "real_distinct": "kube-apiserver, distinct templates",
    "memory": "in memory",
}

# The same for the results of `scale claims`.
CLAIMS = {
    "memory": "in memory",
    "memory3": "in memory, 3 managers",
    "real": "kube-apiserver",
    "real3": "kube-apiserver, 3 managers",
}

# Keys that are computed from others, and are in no result.
COMPUTED = {
    "settled_mib": ("resident memory of all objects, MiB", "", ""),
    "peak_to_settled": ("peak ÷ settled resident memory", "1.47", "≤ 1.3"),
}

# Keys whose values only serve to compute others.
HIDDEN = {"objects", "rss_base_mib", "rss_mib", "rss_peak_mib", "settled_mib"}

# Key, title, divisor, whether it must grow with the objects (or stay level).
PANELS = [
    ("sync_cpu_s", "CPU time until synced, s", 1, True),
    ("settled_mib", "memory of all objects, MiB", 1, True),
    ("drain_s", "every sandbox reconciled after, s", 1, True),
    ("list_all_ns", "list of all, ms", 1e6, True),
    ("get_claimed_ns", "one by its id, ns", 1, False),
    ("find_in_pool_ns", "first free member of a pool, ns", 1, False),
]


def keys(folder, columns):
    """Each key with the columns of keys.txt: its meaning, and what it is compared with."""
    found = {}
    for line in (folder / "keys.txt").read_text().splitlines():
        if not line.startswith("#"):
            key, *cells = [cell.strip() for cell in line.split("|")]
            found[key] = (cells + [""] * columns)[:columns]
    return found


def measure_keys():
    """The keys of `scale measure`, with those that are computed from others."""
    found = {}
    for key, columns in keys(HERE, 3).items():
        found[key] = columns
        if key == "rss_kib_per_object":
            found |= COMPUTED
    return found


def read(path, known):
    pairs = (line.split() for line in path.read_text().splitlines())
    values = {key: float(value) for key, value in pairs}
    if unknown := values.keys() - known.keys():
        sys.exit(f"{path.name}: keys that keys.txt does not have: {', '.join(sorted(unknown))}")
    return values


def runs(folder, servers, known, last_key, compute):
    """Medians of each key by server and number of objects, and the number of runs."""
    found = {}
    for path in sorted(folder.glob("*-*-*.txt")):
        server, objects, _ = path.stem.split("-")
        if server not in servers:
            sys.exit(f"{path.name}: an unknown server; known are {', '.join(servers)}")
        values = read(path, known)
        if last_key not in values and server != "previous":
            sys.exit(f"{path.name}: not a whole run: {last_key} is missing")
        found.setdefault((server, int(objects)), []).append(compute(values))
    return {
        where: ({key: median(key, several) for key in known if median(key, several) is not None}, len(several))
        for where, several in found.items()
    }


def with_computed(values):
    """Adds the keys that are computed from others."""
    values["peak_to_settled"] = values["rss_peak_mib"] / values["rss_mib"]
    values["settled_mib"] = values["rss_mib"] - values["rss_base_mib"]
    return values


def median(key, several):
    """None if no run has the key, as runs without --scrape have none of the scraper's."""
    values = [run[key] for run in several if key in run]
    return statistics.median(values) if values else None


def number(value):
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2f}".rstrip("0").rstrip(".")


def keys_table(titles, servers, known, hidden, results):
    """Every key on every server that was measured. `titles` are those of the columns of keys.txt."""
    columns = sorted(results, key=lambda where: (list(servers).index(where[0]), where[1]))
    head = [f"{servers[server]}, {objects:,}" for server, objects in columns]
    lines = [
        "| " + " | ".join(["Key", *titles, *head]) + " |",
        "|---|---|" + "---:|" * (len(titles) - 1 + len(columns)),
    ]
    for key, cells in known.items():
        if key in hidden:
            continue
        values = [number(results[where][0][key]) if key in results[where][0] else "" for where in columns]
        lines.append("| " + " | ".join([f"`{key}`", *cells, *values]) + " |")
    counts = ", ".join(f"{results[where][1]} on {head[i]}" for i, where in enumerate(columns))
    return "\n".join(lines) + f"\n\nMedians of runs: {counts}.\n"


def claims_table():
    folder = HERE / "claims"
    titles = ["What it is", "Go original, 200", "Go original, 1,000", "Goal"]
    known = keys(folder, len(titles))
    results = runs(folder, CLAIMS, known, "rss_peak_mib", lambda values: values)
    return keys_table(titles, CLAIMS, known, {"members", "managers"}, results)


def section(text, name, content):
    pattern = re.compile(rf"(<!-- {name}: begin -->\n).*?(<!-- {name}: end -->)", re.S)
    if not pattern.search(text):
        sys.exit(f"{PAGE}: no section {name}")
    return pattern.sub(lambda match: match[1] + content + match[2], text)


def panel(points, title, grows, left, top):
    """One curve from zero on; for what grows, the straight line that it should follow."""
    width, height = 250, 150
    most_x, most_y = max(x for x, _ in points), max(y for _, y in points) * 1.15
    if not grows:
        most_y *= 1.6
    at = lambda x, y: (left + width * x / most_x, top + height * (1 - y / most_y))
    parts = [
        f'<text x="{left}" y="{top - 10}" class="title">{escape(title)}</text>',
        f'<path d="M{left} {top}V{top + height}H{left + width}" class="axis"/>',
    ]
    if grows:
        (x0, y0), (x1, y1) = at(0, 0), at(most_x, points[-1][1])
        parts.append(f'<path d="M{x0:.1f} {y0:.1f}L{x1:.1f} {y1:.1f}" class="ideal"/>')
    curve = "L".join(f"{x:.1f} {y:.1f}" for x, y in (at(*point) for point in points))
    parts.append(f'<path d="M{curve}" class="curve"/>')
    for x, y in points:
        px, py = at(x, y)
        parts.append(f'<circle cx="{px:.1f}" cy="{py:.1f}" r="3"/>')
        parts.append(f'<text x="{px + 2:.1f}" y="{py - 7:.1f}" class="value">{number(y)}</text>')
        parts.append(f'<text x="{px:.1f}" y="{top + height + 15}" class="tick">{x // 1000:.0f}k</text>')
    return parts


def plot(results):
    sizes = sorted(objects for server, objects in results if server == "memory")
    style = (
        "text{font:11px sans-serif;fill:#555}.title{font-weight:bold;fill:#222}.tick,.value{text-anchor:middle}"
        ".axis{fill:none;stroke:#999}.curve{fill:none;stroke:#1f6feb;stroke-width:2}"
        ".ideal{fill:none;stroke:#bbb;stroke-dasharray:4}circle{fill:#1f6feb}"
    )
    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 980 460" role="img">',
        "<title>What grows with the number of sandboxes, and what does not</title>",
        f"<style>{style}</style>",
        '<rect width="980" height="460" fill="#fff"/>',
    ]
    for i, (key, title, divisor, grows) in enumerate(PANELS):
        points = [(size, results["memory", size][0][key] / divisor) for size in sizes]
        parts += panel(points, title, grows, 40 + 320 * (i % 3), 50 + 220 * (i // 3))
    return "\n".join(parts) + "\n</svg>\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; fail when something would change")
    check = parser.parse_args().check
    known = measure_keys()
    results = runs(HERE, SERVERS, known, "relist_peak_to_settled", with_computed)
    if not any(server == "memory" for server, _ in results):
        sys.exit(f"no memory-*-*.txt in {HERE}; see the page for the commands that make them")
    titles = ["What it is", "Go original", "Goal"]
    page = section(PAGE.read_text(), "keys", keys_table(titles, SERVERS, known, HIDDEN, results))
    wanted = {
        PAGE: section(page, "claims", claims_table()),
        HERE / "growth.svg": plot(results),
    }
    for path, text in wanted.items():
        if path.exists() and path.read_text() == text:
            continue
        if check:
            sys.exit(f"{path.name} is not what docs/performance/report.py makes of the results")
        path.write_text(text)


if __name__ == "__main__":
    main()
