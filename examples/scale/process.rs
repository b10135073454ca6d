//! Reads the memory and CPU time of this process from the operating system.

use std::time::Duration;

use anyhow::Context;

/// Current and peak resident memory, in MiB.
pub(crate) struct Memory {
    pub(crate) resident: f64,
    pub(crate) peak: f64,
}

/// Reads the memory from `/proc/self/status`.
pub(crate) fn memory() -> anyhow::Result<Memory> {
    let status = std::fs::read_to_string("/proc/self/status").context("memory is only known on Linux")?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).context("no such field")?;
        let kib: f64 = line.trim().trim_end_matches(" kB").parse()?;
        anyhow::Ok(kib / 1024.0)
    };
    Ok(Memory { resident: field("VmRSS:")?, peak: field("VmHWM:")? })
}

/// Resets the peak memory to the current memory.
pub(crate) fn forget_peak() -> anyhow::Result<()> {
    std::fs::write("/proc/self/clear_refs", "5").context("resetting the peak of memory")
}

/// Returns the CPU time of all threads, including ended threads, in steps of 10 ms.
pub(crate) fn cpu() -> anyhow::Result<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    // The program name may contain blanks; the fields after it do not.
    let after_name = stat.rsplit_once(')').context("an unknown form")?.1;
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    let ticks = |at: usize| -> anyhow::Result<u64> { Ok(fields.get(at).context("too short")?.parse()?) };
    // utime and stime are fields 14 and 15 of the whole line. A tick is 10 ms on every current Linux.
    Ok(Duration::from_millis((ticks(11)? + ticks(12)?) * 10))
}
