//! The options file: YAML in, YAML out. The only file that knows the YAML library.
//!
//! Fields are read straight into [`SandboxManagerOptions`] through the settings table. The first thing wrong ends
//! the reading with one error that names file, line, column, field and what is accepted there. A field without a
//! value (`cache:`) counts as left out, as in Kubernetes.

use std::{
    fmt,
    fs::File,
    io::{self, Read as _},
    path::Path,
};

use serde::{
    Deserialize as _,
    de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor},
};
use serde_yaml::{Mapping, Value};

use super::{
    SandboxManagerOptions,
    setting::{InvalidValue, Kind, SETTINGS, Setting},
};

/// `apiVersion` that a file must state.
pub const API_VERSION: &str = "config.agents.kruise.io/v1alpha1";
/// `kind` that a file must state.
pub const KIND: &str = "SandboxManagerOptions";
/// Longest file that is read: 1 MiB.
pub const MAX_FILE_BYTES: u64 = 1 << 20;

/// The two fields that say what the file is, and their only values.
const HEADER: [(&str, &str); 2] = [("apiVersion", API_VERSION), ("kind", KIND)];

/// Why an options file was refused.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The file is missing or may not be read.
    #[error("{file}: cannot be read: {source}")]
    Read {
        /// Path of the file.
        file: String,
        /// What the system says.
        source: io::Error,
    },
    /// More than [`MAX_FILE_BYTES`].
    #[error("{file}: larger than {MAX_FILE_BYTES} bytes, this is no options file")]
    TooLarge {
        /// Path of the file.
        file: String,
    },
    /// Bytes that are no UTF-8.
    #[error("{file}:{line}: not UTF-8 text")]
    NotUtf8 {
        /// Path of the file.
        file: String,
        /// Line of the first such byte, from 1.
        line: usize,
    },
    /// Nothing in it but blanks and comments.
    #[error("{file}: empty, expected at least `apiVersion: {API_VERSION}` and `kind: {KIND}`")]
    Empty {
        /// Path of the file.
        file: String,
    },
    /// Not YAML at all.
    #[error("{file}: not valid YAML: {message}")]
    Syntax {
        /// Path of the file, with line and column where known.
        file: String,
        /// What the YAML parser says.
        message: String,
    },
    /// Something in it is not accepted.
    #[error("{file}: {message}")]
    Field {
        /// Path of the file, with line and column where known.
        file: String,
        /// The field, what is wrong with it, and what is accepted.
        message: String,
    },
    /// Options that cannot be printed.
    #[error("cannot print the options as YAML: {message}")]
    Print {
        /// What the YAML library says.
        message: String,
    },
}

/// Lays the file at `path` over `options`.
pub(super) fn load(path: &Path, options: &mut SandboxManagerOptions) -> Result<(), FileError> {
    let file = path.display().to_string();
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|opened| opened.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes))
        .map_err(|source| FileError::Read { file: file.clone(), source })?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(FileError::TooLarge { file });
    }
    match std::str::from_utf8(&bytes) {
        Ok(text) => parse(&file, text, options),
        Err(error) => {
            let line = bytes[..error.valid_up_to()].split(|byte| *byte == b'\n').count();
            Err(FileError::NotUtf8 { file, line })
        }
    }
}

/// Lays a file's text over `options`; `file` is its name, for errors.
pub(super) fn parse(file: &str, text: &str, options: &mut SandboxManagerOptions) -> Result<(), FileError> {
    check_syntax(file, text)?;
    let mut reading = Reading { options, problem: None, empty: false };
    let root = Section { reading: &mut reading, path: String::new() };
    let result = root.deserialize(serde_yaml::Deserializer::from_str(text));
    match result {
        Ok(_) if reading.empty => Err(FileError::Empty { file: file.to_owned() }),
        Ok(seen) => match HEADER.into_iter().find(|(field, _)| !seen.iter().any(|name| name == field)) {
            Some((field, value)) => Err(field_error(file, format!("{field}: missing, expected \"{value}\""))),
            None => Ok(()),
        },
        Err(error) => {
            // Our own finding, at the place that the YAML parser was at; else the parser's own complaint.
            let message = reading.problem.unwrap_or_else(|| error.to_string());
            Err(FileError::Field { file: place(file, &error), message })
        }
    }
}

/// Exactly one well-formed document. Checked by itself and first: a text that is no YAML would also stop the
/// reading below, which would then blame the field it had come to.
fn check_syntax(file: &str, text: &str) -> Result<(), FileError> {
    let mut documents = serde_yaml::Deserializer::from_str(text);
    let Some(first) = documents.next() else {
        return Err(FileError::Empty { file: file.to_owned() });
    };
    if let Err(error) = IgnoredAny::deserialize(first) {
        return Err(FileError::Syntax { file: place(file, &error), message: error.to_string() });
    }
    // Never more than one further: after an error the parser yields documents without end.
    match documents.next() {
        Some(_) => Err(field_error(file, "more than one document, expected exactly one")),
        None => Ok(()),
    }
}

fn place(file: &str, error: &serde_yaml::Error) -> String {
    match error.location() {
        Some(at) => format!("{file}:{}:{}", at.line(), at.column()),
        None => file.to_owned(),
    }
}

fn field_error(file: &str, message: impl Into<String>) -> FileError {
    FileError::Field { file: file.to_owned(), message: message.into() }
}

/// These options as a file.
pub(super) fn to_yaml(options: &SandboxManagerOptions) -> Result<String, FileError> {
    let failed = |message: String| FileError::Print { message };
    let mut root = Mapping::new();
    for (field, value) in HEADER {
        root.insert(field.into(), value.into());
    }
    for setting in SETTINGS {
        let text = setting.get(options);
        let value = match setting.kind() {
            Kind::Text => Value::String(text),
            Kind::Number => {
                Value::Number(text.parse::<u64>().map_err(|error| failed(error.to_string()))?.into())
            }
            Kind::Boolean => Value::Bool(text == "true"),
        };
        let (sections, field) = setting.path.rsplit_once('.').unwrap_or(("", setting.path));
        let mut section = &mut root;
        for name in sections.split('.').filter(|name| !name.is_empty()) {
            let inner = section.entry(name.into()).or_insert_with(|| Value::Mapping(Mapping::new()));
            section = inner.as_mapping_mut().ok_or_else(|| failed(format!("{name} is no section")))?;
        }
        section.insert(field.into(), value);
    }
    serde_yaml::to_string(&root).map_err(|error| failed(error.to_string()))
}

/// What is known while a file is read.
struct Reading<'o> {
    options: &'o mut SandboxManagerOptions,
    /// The first thing wrong, in our words. The YAML error that carries it adds line and column.
    problem: Option<String>,
    /// The document is there but holds nothing (`null`).
    empty: bool,
}

impl Reading<'_> {
    fn refuse<E: de::Error>(&mut self, path: &str, message: impl fmt::Display) -> E {
        let message = if path.is_empty() { message.to_string() } else { format!("{path}: {message}") };
        E::custom(self.problem.get_or_insert(message))
    }
}

fn join(section: &str, field: &str) -> String {
    if section.is_empty() { field.to_owned() } else { format!("{section}.{field}") }
}

/// Names accepted directly in a section, in the order of the file.
fn fields_of(section: &str) -> Vec<&'static str> {
    let header = HEADER.iter().map(|(field, _)| *field).filter(|_| section.is_empty());
    let inner = SETTINGS.iter().filter_map(|setting| {
        let rest = if section.is_empty() {
            setting.path
        } else {
            setting.path.strip_prefix(section)?.strip_prefix('.')?
        };
        rest.split('.').next()
    });
    let mut fields: Vec<_> = header.chain(inner).collect();
    fields.dedup();
    fields
}

/// What an unknown field may have been meant to be: a like name in its section, or the same name elsewhere.
fn suggestion(section: &str, unknown: &str) -> Option<String> {
    let likeness = |name: &str| strsim::jaro_winkler(&name.to_lowercase(), &unknown.to_lowercase());
    let near = fields_of(section)
        .into_iter()
        .map(|name| (likeness(name), name))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|(a, _), (b, _)| a.total_cmp(b));
    let elsewhere =
        || SETTINGS.iter().map(|setting| setting.path).find(|path| path.rsplit('.').next() == Some(unknown));
    near.map(|(_, name)| join(section, name)).or_else(|| elsewhere().map(str::to_owned))
}

/// Reads one section and what is below it. Yields the names of the fields that were there.
struct Section<'r, 'o> {
    reading: &'r mut Reading<'o>,
    path: String,
}

impl<'de> DeserializeSeed<'de> for Section<'_, '_> {
    type Value = Vec<String>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_option(self)
    }
}

impl<'de> Visitor<'de> for Section<'_, '_> {
    type Value = Vec<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a section with the fields {}", fields_of(&self.path).join(", "))
    }

    fn visit_none<E: de::Error>(self) -> Result<Self::Value, E> {
        self.reading.empty = self.path.is_empty();
        Ok(Vec::new())
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        let Section { reading, path } = self;
        let inner = Section { reading: &mut *reading, path: path.clone() };
        deserializer.deserialize_map(inner).inspect_err(|_| {
            // Only when nothing below had a complaint of its own: the value itself is no section.
            let fields = fields_of(&path).join(", ");
            let _: de::value::Error =
                reading.refuse(&path, format_args!("expected a section with the fields {fields}"));
        })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let Section { reading, path: section } = self;
        let mut seen = Vec::new();
        while let Some(field) =
            map.next_key_seed(Key { reading: &mut *reading, section: &section, seen: &seen })?
        {
            let path = join(&section, &field);
            if let Some((_, only)) = HEADER.into_iter().find(|(name, _)| *name == path) {
                map.next_value_seed(Leaf {
                    reading: &mut *reading,
                    path: &path,
                    target: Target::Header(only),
                })?;
            } else if let Some(setting) = SETTINGS.iter().find(|setting| setting.path == path) {
                map.next_value_seed(Leaf {
                    reading: &mut *reading,
                    path: &path,
                    target: Target::Setting(setting),
                })?;
            } else {
                map.next_value_seed(Section { reading: &mut *reading, path })?;
            }
            seen.push(field);
        }
        Ok(seen)
    }
}

/// Reads the name of a field: known in its section, and not there twice. Refusing it here, and not later, makes
/// the error point at the name itself.
struct Key<'r, 'o, 's> {
    reading: &'r mut Reading<'o>,
    section: &'s str,
    seen: &'s [String],
}

impl<'de> DeserializeSeed<'de> for Key<'_, '_, '_> {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_, '_, '_> {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a field")
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<String, E> {
        let accepted = fields_of(self.section);
        let path = join(self.section, &name.escape_debug().to_string());
        if !accepted.contains(&name) {
            let hint = suggestion(self.section, name)
                .map_or_else(String::new, |near| format!(", did you mean `{near}`?"));
            let message = format!("unknown field{hint} (accepted here: {})", accepted.join(", "));
            return Err(self.reading.refuse(&path, message));
        }
        if self.seen.iter().any(|seen| seen == name) {
            return Err(self.reading.refuse(&path, "given twice, expected once"));
        }
        Ok(name.to_owned())
    }
}

enum Target {
    /// A field with one possible value.
    Header(&'static str),
    Setting(&'static Setting),
}

impl Target {
    /// Its text counts, with or without quotes.
    fn is_text(&self) -> bool {
        match self {
            Self::Header(_) => true,
            Self::Setting(setting) => setting.kind() == Kind::Text,
        }
    }
}

/// Reads one value.
struct Leaf<'r, 'o, 'p> {
    reading: &'r mut Reading<'o>,
    path: &'p str,
    target: Target,
}

impl Leaf<'_, '_, '_> {
    fn accepts(&self) -> String {
        match self.target {
            Target::Header(only) => format!("\"{only}\""),
            Target::Setting(setting) => setting.accepts.to_owned(),
        }
    }

    /// `plain`: the file wrote it without quotes, or it is a text, where quotes do not matter.
    fn take<E: de::Error>(self, text: &str, plain: bool) -> Result<(), E> {
        let refused = match self.target {
            Target::Header(only) if text == only => None,
            Target::Header(only) => {
                Some(InvalidValue { value: text.to_owned(), reason: format!("expected \"{only}\"") })
            }
            Target::Setting(setting) => match setting.set(self.reading.options, text) {
                Ok(()) if plain => None,
                Ok(()) => Some(InvalidValue {
                    value: text.to_owned(),
                    reason: format!("expected {} without quotes", setting.accepts),
                }),
                Err(refused) => Some(refused),
            },
        };
        refused.map_or(Ok(()), |refused| Err(self.reading.refuse(self.path, refused)))
    }
}

impl<'de> DeserializeSeed<'de> for Leaf<'_, '_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_option(self)
    }
}

impl<'de> Visitor<'de> for Leaf<'_, '_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.accepts())
    }

    fn visit_none<E: de::Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        let message = format!("expected {}", self.accepts());
        let Leaf { reading, path, target } = self;
        let is_text = target.is_text();
        let inner = Leaf { reading: &mut *reading, path, target };
        let result =
            if is_text { deserializer.deserialize_str(inner) } else { deserializer.deserialize_any(inner) };
        result.inspect_err(|_| {
            // Only when the value itself had no complaint: it is a list or a section.
            let _: de::value::Error = reading.refuse(path, message);
        })
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<(), E> {
        let plain = self.target.is_text();
        self.take(text, plain)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<(), E> {
        self.take(&value.to_string(), true)
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<(), E> {
        self.take(&value.to_string(), true)
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<(), E> {
        self.take(&value.to_string(), true)
    }

    fn visit_u128<E: de::Error>(self, value: u128) -> Result<(), E> {
        self.take(&value.to_string(), true)
    }

    fn visit_i128<E: de::Error>(self, value: i128) -> Result<(), E> {
        self.take(&value.to_string(), true)
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<(), E> {
        self.take(&format!("{value:?}"), true)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEAD: &str = "apiVersion: config.agents.kruise.io/v1alpha1\nkind: SandboxManagerOptions\n";

    fn read(text: &str) -> Result<SandboxManagerOptions, String> {
        let mut options = SandboxManagerOptions::default();
        parse("config.yaml", text, &mut options).map_err(|error| error.to_string())?;
        Ok(options)
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
                "config.yaml:4:3: cache.pageSiz: unknown field, did you mean `cache.pageSize`? (accepted here: syncTimeout, pageSize)",
            ),
            (
                "cache:\n  zzz: 5\n",
                "config.yaml:4:3: cache.zzz: unknown field (accepted here: syncTimeout, pageSize)",
            ),
            (
                "pageSize: 5\n",
                "config.yaml:3:1: pageSize: unknown field, did you mean `cache.pageSize`? (accepted here: apiVersion, kind, sandboxNamespace, sandboxLabelSelector, systemNamespace, metrics, health, debug, controllers, cache, client, log, shutdown)",
            ),
            (
                "cache: 5\n",
                "config.yaml:3:8: cache: expected a section with the fields syncTimeout, pageSize",
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
    fn a_file_of_another_kind_is_refused() {
        assert_eq!(
            read("apiVersion: apps/v1\nkind: Deployment\n").unwrap_err(),
            r#"config.yaml:1:13: apiVersion: invalid value "apps/v1": expected "config.agents.kruise.io/v1alpha1""#
        );
        assert_eq!(
            read(&format!("apiVersion: {API_VERSION}\nkind: Other\n")).unwrap_err(),
            r#"config.yaml:2:7: kind: invalid value "Other": expected "SandboxManagerOptions""#
        );
        assert_eq!(
            read(&format!("apiVersion: {API_VERSION}\n")).unwrap_err(),
            r#"config.yaml: kind: missing, expected "SandboxManagerOptions""#
        );
    }

    #[test]
    fn what_is_no_options_file_at_all_is_refused() {
        for empty in ["", "# nothing\n", "---\n", "~\n"] {
            assert!(
                read(empty).unwrap_err().starts_with("config.yaml: empty, expected at least "),
                "{empty:?}"
            );
        }
        assert_eq!(
            read("a: b\n---\nc: d\n").unwrap_err(),
            "config.yaml: more than one document, expected exactly one"
        );
        let syntax = read("a: [b\n").unwrap_err();
        assert!(syntax.starts_with("config.yaml:2:1: not valid YAML: "), "{syntax}");
        assert!(
            read("just text\n").unwrap_err().contains("expected a section with the fields apiVersion, kind")
        );
    }

    #[test]
    fn unreadable_files_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let load_bytes = |bytes: &[u8]| {
            let path = folder.path().join("config.yaml");
            std::fs::write(&path, bytes).unwrap();
            load(&path, &mut SandboxManagerOptions::default()).unwrap_err()
        };
        assert!(matches!(load_bytes(b"a: b\n\xff"), FileError::NotUtf8 { line: 2, .. }));
        assert!(matches!(load_bytes(&vec![b'#'; 1 + (1 << 20)]), FileError::TooLarge { .. }));
        assert!(matches!(
            load(folder.path(), &mut SandboxManagerOptions::default()),
            Err(FileError::Read { .. })
        ));
    }

    #[test]
    fn the_documented_file_holds_exactly_the_defaults() {
        let documented = include_str!("../../config/manager/config.yaml");
        assert_eq!(read(documented).unwrap(), SandboxManagerOptions::default());
        // Written out in full, so that a changed default cannot hide behind a field that is left out.
        let value: Value = serde_yaml::from_str(documented).unwrap();
        let printed: Value =
            serde_yaml::from_str(&to_yaml(&SandboxManagerOptions::default()).unwrap()).unwrap();
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
            prop_assert_eq!(read(&to_yaml(&options).unwrap()).unwrap(), options);
        }

        #[test]
        fn reading_never_panics(text in "([a-z:{}\\[\\], \n&*!-]|cache|pageSize|log){0,40}") {
            let _ = read(&text);
        }
    }
}
