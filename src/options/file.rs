//! The file of options: YAML in, YAML out.
//!
//! Each fault has file, line, column, field, and what is accepted there. A fault does not end the reading: the walk
//! over the events of the YAML parser skips the value and goes on. A field without a value (`cache:`) counts as left
//! out, as in Kubernetes.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    fs::File,
    io::Read as _,
    path::Path,
};

use granit_parser::{Event, Marker, Parser, ScalarStyle};
use serde::Serialize;

use super::{
    SandboxManagerOptions,
    document::{API_VERSION, KIND},
    setting::{SETTINGS, SetError, Setting, join, most_similar},
};

/// Maximum size of a file: 1 MiB.
pub const MAX_FILE_BYTES: u64 = 1 << 20;

/// The two fields that say what the file is, and their only values.
const HEADER: [(&str, &str); 2] = [("apiVersion", API_VERSION), ("kind", KIND)];

/// Loads the file at `path` over `options` and adds its faults.
pub(super) fn load(path: &Path, options: &mut SandboxManagerOptions, faults: &mut Vec<String>) {
    let file = path.display().to_string();
    match read(path) {
        Ok(text) => parse(&file, &text, options, faults),
        Err(problem) => faults.push(file + &problem),
    }
}

fn read(path: &Path) -> Result<String, String> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes));
    read.map_err(|error| format!(": cannot be read: {error}"))?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(format!(": larger than {MAX_FILE_BYTES} bytes, the maximum of a file of options"));
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        format!(":{}: not UTF-8 text", valid.split(|byte| *byte == b'\n').count())
    })
}

/// Loads a file's text over `options`; `file` is its name, for the faults.
fn parse(file: &str, text: &str, options: &mut SandboxManagerOptions, faults: &mut Vec<String>) {
    match Document::parse(text) {
        Ok(document) => Walk { file, document: &document, options, faults }.section("", 0),
        Err(problem) => faults.push(format!("{file}{problem}")),
    }
}

/// Prints these options as a file.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Printed<'o> {
    api_version: &'static str,
    kind: &'static str,
    #[serde(flatten)]
    options: &'o SandboxManagerOptions,
}

impl SandboxManagerOptions {
    /// Returns these options as the text of a file that loads as the same options.
    #[must_use]
    pub fn to_yaml(&self) -> String {
        to_yaml(self)
    }
}

fn to_yaml(options: &SandboxManagerOptions) -> String {
    let printed = Printed { api_version: API_VERSION, kind: KIND, options };
    serde_yaml::to_string(&printed).expect("the options hold only sections, texts, numbers and booleans")
}

/// The events of one YAML document: the nodes in the order of the text, and the ends of sections and lists.
struct Document<'t> {
    events: Vec<(Event<'t>, Marker)>,
    /// The node of each anchor, as an index into `events`.
    anchors: BTreeMap<usize, usize>,
}

impl<'t> Document<'t> {
    fn parse(text: &'t str) -> Result<Self, String> {
        let mut parsed = Self { events: Vec::new(), anchors: BTreeMap::new() };
        let mut documents = 0;
        for event in Parser::new_from_str(text) {
            let (event, span) =
                event.map_err(|error| format!("{}: not valid YAML: {}", at(error.marker()), error.info()))?;
            if let Event::DocumentStart(..) = event {
                documents += 1;
                if documents > 1 {
                    return Err(format!("{}: more than one document, expected exactly one", at(&span.start)));
                }
            }
            if let Some(anchor) = event.anchor_id() {
                parsed.anchors.insert(anchor, parsed.events.len());
            }
            // Neither comments nor the beginning and the end of the document.
            if event.is_node() || matches!(event, Event::SequenceEnd | Event::MappingEnd) {
                parsed.events.push((event, span.start));
            }
        }
        if parsed.events.is_empty() || parsed.is_null(0) {
            let header = HEADER.map(|(field, value)| format!("`{field}: {value}`")).join(" and ");
            return Err(format!(": empty, expected at least {header}"));
        }
        Ok(parsed)
    }

    /// The index of the node itself, if the one at `index` is an alias of it.
    fn resolve(&self, index: usize) -> usize {
        let anchor = self.events[index].0.alias_id();
        anchor.and_then(|anchor| self.anchors.get(&anchor)).copied().unwrap_or(index)
    }

    /// The text of a scalar, and whether it is written without quotes.
    fn scalar(&self, index: usize) -> Option<(&str, bool)> {
        let (text, style) = self.events[self.resolve(index)].0.scalar()?;
        Some((text, style == ScalarStyle::Plain))
    }

    fn is_null(&self, index: usize) -> bool {
        matches!(self.scalar(index), Some(("" | "~" | "null" | "Null" | "NULL", true)))
    }

    /// The index after the node at `index` and everything in it.
    fn end(&self, index: usize) -> usize {
        let mut depth = 0;
        for (position, (event, _)) in self.events.iter().enumerate().skip(index) {
            match event {
                Event::SequenceStart(..) | Event::MappingStart(..) => depth += 1,
                Event::SequenceEnd | Event::MappingEnd => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                return position + 1;
            }
        }
        self.events.len()
    }

    /// The indexes of the names and the values in a section; `None` if the node is no section.
    fn fields(&self, index: usize) -> Option<Vec<(usize, usize)>> {
        let start = self.resolve(index);
        let Event::MappingStart(..) = self.events[start].0 else { return None };
        let (mut fields, mut next) = (Vec::new(), start + 1);
        while next < self.events.len() && self.events[next].0 != Event::MappingEnd {
            let value = self.end(next);
            fields.push((next, value));
            next = self.end(value);
        }
        Some(fields)
    }
}

/// A place in the file, to follow its name.
fn at(marker: &Marker) -> String {
    format!(":{}:{}", marker.line(), marker.col() + 1)
}

/// Sets options from a document. Its recursion ends where the structure of the options ends, however deep the
/// document is.
struct Walk<'w> {
    file: &'w str,
    document: &'w Document<'w>,
    options: &'w mut SandboxManagerOptions,
    faults: &'w mut Vec<String>,
}

impl Walk<'_> {
    fn reject(&mut self, index: usize, path: &str, problem: impl fmt::Display) {
        let place = at(&self.document.events[index].1);
        self.faults.push(format!("{}{place}: {}", self.file, join(path, ": ", &problem.to_string())));
    }

    fn section(&mut self, path: &str, index: usize) {
        let accepted = fields_of(path);
        if self.document.is_null(index) {
            return;
        }
        let Some(fields) = self.document.fields(index) else {
            let problem = format!("expected a section with the fields {}", accepted.join(", "));
            return self.reject(index, path, problem);
        };
        let mut seen = BTreeSet::new();
        for (name, value) in fields {
            let Some((text, _)) = self.document.scalar(name) else {
                self.reject(name, path, "expected the name of a field");
                continue;
            };
            let field = join(path, ".", &text.escape_debug().to_string());
            if !accepted.contains(&text) {
                self.reject(name, &field, unknown_field(path, text, &accepted));
            } else if seen.insert(text) {
                self.field(&field, value);
            } else {
                self.reject(name, &field, "given twice, expected once");
            }
        }
        if path.is_empty() {
            for (field, only) in HEADER.iter().filter(|(field, _)| !seen.contains(field)) {
                self.faults.push(format!("{}: {field}: missing, expected \"{only}\"", self.file));
            }
        }
    }

    fn field(&mut self, path: &str, index: usize) {
        let header = HEADER.iter().find(|(field, _)| *field == path).map(|(_, only)| only);
        let setting = SETTINGS.iter().find(|setting| setting.path == path);
        let accepts = match (header, setting) {
            (Some(only), _) => format!("\"{only}\""),
            (None, Some(setting)) => setting.accepts.clone(),
            (None, None) => return self.section(path, index),
        };
        if self.document.is_null(index) {
            if header.is_some() {
                self.reject(index, path, format_args!("missing, expected {accepts}"));
            }
            return;
        }
        let Some((text, is_plain)) = self.document.scalar(index) else {
            return self.reject(index, path, format_args!("expected {accepts}"));
        };
        let done = match setting {
            Some(setting) => self.set(setting, text, is_plain),
            None if header == Some(&text) => Ok(()),
            None => Err(SetError { value: text.to_owned(), reason: format!("expected {accepts}") }),
        };
        if let Err(error) = done {
            self.reject(index, path, error);
        }
    }

    fn set(&mut self, setting: &Setting, text: &str, is_plain: bool) -> Result<(), SetError> {
        setting.set(self.options, text)?;
        if setting.is_plain() && !is_plain {
            let reason = format!("expected {} without quotes", setting.accepts);
            return Err(SetError { value: text.to_owned(), reason });
        }
        Ok(())
    }
}

/// Names accepted directly in a section, in the order of the structure.
fn fields_of(section: &str) -> Vec<&'static str> {
    let header = HEADER.iter().map(|(field, _)| *field).filter(|_| section.is_empty());
    let inner = SETTINGS.iter().filter_map(|setting| {
        let rest = match section {
            "" => &setting.path,
            _ => setting.path.strip_prefix(section)?.strip_prefix('.')?,
        };
        rest.split('.').next()
    });
    let mut fields: Vec<_> = header.chain(inner).collect();
    fields.dedup();
    fields
}

/// The user can have meant a similar name in the section, or the same name in another section.
fn unknown_field(section: &str, unknown: &str, accepted: &[&str]) -> String {
    let similar = most_similar(unknown, accepted.iter().copied()).map(|name| join(section, ".", name));
    let elsewhere = || SETTINGS.iter().find(|setting| setting.path.rsplit('.').next() == Some(unknown));
    let meant = similar.or_else(|| elsewhere().map(|setting| setting.path.clone()));
    let hint = meant.map_or_else(String::new, |meant| format!(", did you mean `{meant}`?"));
    format!("unknown field{hint} (accepted here: {})", accepted.join(", "))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_yaml::Value;

    use super::*;

    const HEAD: &str = "apiVersion: config.agents.kruise.io/v1alpha1\nkind: SandboxManagerOptions\n";

    fn read(text: &str) -> Result<SandboxManagerOptions, String> {
        let (mut options, mut faults) = (SandboxManagerOptions::default(), Vec::new());
        parse("config.yaml", text, &mut options, &mut faults);
        if faults.is_empty() { Ok(options) } else { Err(faults.join("\n")) }
    }

    fn error(body: &str) -> String {
        read(&format!("{HEAD}{body}")).unwrap_err()
    }

    #[test]
    fn a_file_changes_what_it_names_and_nothing_else() {
        let options = read(&format!(
            "{HEAD}sandboxNamespace: team-a\nmetrics: {{ bindAddress: 0 }}\ncache:\n  pageSize: 7\nlog:\ndebug: {{enabled: true}}\n"
        ))
        .unwrap();
        let mut expected =
            SandboxManagerOptions { sandbox_namespace: "team-a".to_owned(), ..Default::default() };
        expected.metrics.bind_address = super::super::BindAddress::Off;
        expected.cache.page_size = 7;
        expected.debug.enabled = true;
        assert_eq!(options, expected);
    }

    #[test]
    fn every_error_names_file_line_column_field_and_what_is_accepted() {
        for (body, expected) in [
            (
                "cache:\n  pageSize: many\n",
                "config.yaml:4:13: cache.pageSize: invalid value \"many\": expected a whole number from 1 to 10000",
            ),
            (
                "cache:\n  pageSize: \"500\"\n",
                "config.yaml:4:13: cache.pageSize: invalid value \"500\": expected a whole number from 1 to 10000 without quotes",
            ),
            (
                "cache:\n  pageSize: [1]\n",
                "config.yaml:4:13: cache.pageSize: expected a whole number from 1 to 10000",
            ),
            (
                "cache:\n  pageSize: 1.5\n",
                "config.yaml:4:13: cache.pageSize: invalid value \"1.5\": expected a whole number from 1 to 10000",
            ),
            (
                "cache:\n  pageSiz: 5\n",
                "config.yaml:4:3: cache.pageSiz: unknown field, did you mean `cache.pageSize`? (accepted here: syncTimeout, pageSize, persistentVolumes)",
            ),
            (
                "cache:\n  zzz: 5\n",
                "config.yaml:4:3: cache.zzz: unknown field (accepted here: syncTimeout, pageSize, persistentVolumes)",
            ),
            (
                "pageSize: 5\n",
                "config.yaml:3:1: pageSize: unknown field, did you mean `cache.pageSize`? (accepted here: apiVersion, kind, sandboxNamespace, sandboxLabelSelector, systemNamespace, metrics, health, debug, controllers, leaderElection, lifecycle, e2b, cache, client, log, shutdown)",
            ),
            (
                "cache: 5\n",
                "config.yaml:3:8: cache: expected a section with the fields syncTimeout, pageSize, persistentVolumes",
            ),
            (
                "cache:\n  pageSize: 5\n  pageSize: 6\n",
                "config.yaml:5:3: cache.pageSize: given twice, expected once",
            ),
            (
                "sandboxLabelSelector: \"a in (x\"\n",
                "config.yaml:3:23: sandboxLabelSelector: invalid value \"a in (x\": at character 8: expected `,` or `)`, found the end",
            ),
            (
                "log: {level: loud}\n",
                "config.yaml:3:14: log.level: invalid value \"loud\": expected one of error, warn, info, debug, trace",
            ),
            (
                "debug: {enabled: yes}\n",
                "config.yaml:3:18: debug.enabled: invalid value \"yes\": expected true or false",
            ),
            (
                "sandboxNamespace: {a: b}\n",
                "config.yaml:3:19: sandboxNamespace: expected the name of a namespace (lower-case letters, digits and `-`, beginning and ending with a letter or digit, at most 63 characters) or nothing",
            ),
        ] {
            assert_eq!(error(body), expected);
        }
    }

    #[test]
    fn y8_every_fault_of_a_file_is_reported_at_once_in_the_order_of_the_file() {
        let text = "kind: Other\ncache:\n  pageSize: many\n  syncTimeout: 5\n  zzz: {a: [b]}\nlog: [x]\nlog:\n\
                    ? [x]\n: y\nclient: {qps: 7, burst: 0}\n";
        let expected = [
            r#"config.yaml:1:7: kind: invalid value "Other": expected "SandboxManagerOptions""#,
            r#"config.yaml:3:13: cache.pageSize: invalid value "many": expected a whole number from 1 to 10000"#,
            r#"config.yaml:4:16: cache.syncTimeout: invalid value "5": expected a duration above zero such as 30s, 2m or 1h30m"#,
            "config.yaml:5:3: cache.zzz: unknown field (accepted here: syncTimeout, pageSize, persistentVolumes)",
            "config.yaml:6:6: log: expected a section with the fields level, format",
            "config.yaml:7:1: log: given twice, expected once",
            "config.yaml:8:3: expected the name of a field",
            r#"config.yaml:10:25: client.burst: invalid value "0": expected a whole number from 1 to 1000000"#,
            r#"config.yaml: apiVersion: missing, expected "config.agents.kruise.io/v1alpha1""#,
        ];
        assert_eq!(read(text).unwrap_err(), expected.join("\n"));
    }

    #[test]
    fn a_file_without_its_kind_is_refused() {
        assert_eq!(
            read(&format!("apiVersion: {API_VERSION}\n")).unwrap_err(),
            r#"config.yaml: kind: missing, expected "SandboxManagerOptions""#
        );
        assert_eq!(
            read(&format!("kind:\napiVersion: {API_VERSION}\n")).unwrap_err(),
            r#"config.yaml:1:5: kind: missing, expected "SandboxManagerOptions""#
        );
    }

    #[test]
    fn an_alias_stands_for_its_anchor_and_cannot_make_the_reading_endless() {
        let options = read(&format!(
            "{HEAD}sandboxNamespace: &name team-a\nsystemNamespace: *name\n\
             controllers: {{sandbox: &one {{maxConcurrentReconciles: 9}}, sandboxSet: *one}}\n"
        ))
        .unwrap();
        assert_eq!(options.system_namespace, "team-a");
        assert_eq!(options.controllers.sandbox_set.max_concurrent_reconciles, 9);
        assert_eq!(
            error("controllers: &loop\n  sandbox: *loop\n"),
            "config.yaml:4:3: controllers.sandbox.sandbox: unknown field (accepted here: maxConcurrentReconciles)"
        );
    }

    #[test]
    fn other_spellings_of_yaml_are_accepted() {
        let options =
            read(&format!("\u{feff}---\n{HEAD}debug: {{enabled: TRUE}}\nlog: {{level: 'warn'}}\n...\n"));
        let options = options.unwrap();
        assert!(options.debug.enabled);
        assert_eq!(options.log.level, super::super::LogLevel::Warn);
        assert!(error("debug: {enabled: 'true'}\n").ends_with("expected true or false without quotes"));
    }

    #[test]
    fn what_is_no_options_file_at_all_is_refused() {
        for empty in ["", "# nothing\n", "---\n", "~\n"] {
            assert_eq!(
                read(empty).unwrap_err(),
                "config.yaml: empty, expected at least `apiVersion: config.agents.kruise.io/v1alpha1` and \
                 `kind: SandboxManagerOptions`",
                "{empty:?}"
            );
        }
        assert_eq!(
            read("a: b\n---\nc: d\n").unwrap_err(),
            "config.yaml:2:1: more than one document, expected exactly one"
        );
        assert_eq!(read("a: [b\n").unwrap_err(), "config.yaml:1:4: not valid YAML: unclosed bracket '['");
        let deep = read(&"[".repeat(100_000)).unwrap_err();
        assert!(deep.contains(": not valid YAML: "), "{deep}");
        assert!(read("just text\n").unwrap_err().starts_with(
            "config.yaml:1:1: expected a section with the fields apiVersion, kind, sandboxNamespace"
        ));
    }

    #[test]
    fn unreadable_files_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let faults_of = |path: &Path| {
            let mut faults = Vec::new();
            load(path, &mut SandboxManagerOptions::default(), &mut faults);
            assert_eq!(faults.len(), 1, "{faults:?}");
            faults.remove(0).replace(&format!("{}", folder.path().display()), "")
        };
        let path = folder.path().join("config.yaml");
        let faults_of_bytes = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            faults_of(&path)
        };
        assert_eq!(faults_of_bytes(b"a: b\nc: \xff"), "/config.yaml:2: not UTF-8 text");
        assert_eq!(
            faults_of_bytes(&vec![b'#'; 1 + (1 << 20)]),
            "/config.yaml: larger than 1048576 bytes, the maximum of a file of options"
        );
        assert!(faults_of(folder.path()).starts_with(": cannot be read: "));
    }

    #[test]
    fn the_documented_file_holds_exactly_the_defaults() {
        let documented = include_str!("../../config/manager/config.yaml");
        assert_eq!(read(documented).unwrap(), SandboxManagerOptions::default());
        // Written out in full, so that a changed default cannot hide behind a field that is left out.
        let value: Value = serde_yaml::from_str(documented).unwrap();
        let printed: Value = serde_yaml::from_str(&SandboxManagerOptions::default().to_yaml()).unwrap();
        assert_eq!(value, printed);
    }

    fn options() -> impl Strategy<Value = SandboxManagerOptions> {
        let name = || "([a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?)?";
        let address = || prop_oneof![Just("0".to_owned()), "[a-z]{0,5}:[0-9]{1,4}", "\\[::1\\]:[1-9]"];
        (
            (name(), "(a=b|c in \\(x,y\\),!d)?", name(), address(), address(), any::<bool>()),
            (1..=u16::MAX, 1..=10_000u32, 0..=1_000_000u32, 1..=1_000_000u32, 1..u64::from(u32::MAX)),
        )
            .prop_map(
                |(
                    (sandbox, selector, system, metrics, health, debug),
                    (reconciles, page, qps, burst, millis),
                )| {
                    let mut options = SandboxManagerOptions {
                        sandbox_namespace: sandbox,
                        sandbox_label_selector: selector,
                        system_namespace: system,
                        ..SandboxManagerOptions::default()
                    };
                    options.metrics.bind_address = metrics.parse().unwrap();
                    options.health.bind_address = health.parse().unwrap();
                    options.debug.enabled = debug;
                    options.controllers.sandbox.max_concurrent_reconciles = reconciles;
                    options.cache.page_size = page;
                    options.cache.sync_timeout = std::time::Duration::from_millis(millis);
                    options.client.qps = qps;
                    options.client.burst = burst;
                    options.log.format = super::super::LogFormat::Text;
                    options
                },
            )
    }

    proptest! {
        #[test]
        fn printed_options_parse_to_the_same(options in options()) {
            prop_assert_eq!(read(&options.to_yaml()).unwrap(), options);
        }

        #[test]
        fn reading_never_panics(text in "([a-z:{}\\[\\], \n&*!-]|cache|pageSize|log){0,40}") {
            let _ = read(&text);
        }
    }
}
