//! The binary rejects invalid input: one line on standard error per error, exit code 2, and nothing is
//! started.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

const HEAD: &str = "apiVersion: config.agents.kruise.io/v1alpha1\nkind: SandboxManagerOptions\n";

/// The binary in an empty environment and an empty folder, which is also its home folder.
struct Process {
    folder: tempfile::TempDir,
    command: Command,
}

impl Process {
    fn new(arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut command = Command::new(env!("CARGO_BIN_EXE_sandbox-manager"));
        command.args(arguments).env_clear().env("HOME", folder.path()).current_dir(folder.path());
        Self { folder, command }
    }

    /// Runs with `config.yaml` of this content in the folder.
    fn with_config(text: impl AsRef<[u8]>) -> Self {
        Self::new(&["--config", "config.yaml"]).file("config.yaml", text)
    }

    fn file(self, name: impl AsRef<Path>, text: impl AsRef<[u8]>) -> Self {
        std::fs::write(self.folder.path().join(name), text).expect("a file in it");
        self
    }

    fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    fn output(mut self) -> Output {
        self.command.output().expect("the binary runs")
    }

    /// Asserts that the input is rejected with exactly this line.
    #[track_caller]
    fn refused(self, expected: &str) {
        self.refused_with(&[expected]);
    }

    /// Asserts that the input is rejected with exactly these lines.
    #[track_caller]
    fn refused_with(self, expected: &[&str]) {
        let output = self.output();
        let lines = format!("error: {}\n", expected.join("\nerror: "));
        assert_eq!(String::from_utf8_lossy(&output.stderr), lines);
        assert_eq!(String::from_utf8_lossy(&output.stdout), "");
        assert_eq!(output.status.code(), Some(2));
    }
}

fn refused_config(body: &str, expected: &str) {
    let text = format!("{HEAD}{body}");
    Process::with_config(&text).refused(expected);
    Process::new(&["config", "--config", "config.yaml"]).file("config.yaml", &text).refused(expected);
}

#[test]
fn unknown_field_is_refused_with_the_known_ones() {
    refused_config(
        "cache:\n  pageSiz: 5\n",
        "config.yaml:4:3: cache.pageSiz: unknown field, did you mean `cache.pageSize`? (accepted here: syncTimeout, pageSize, persistentVolumes)",
    );
}

#[test]
fn wrong_type_is_refused_with_line_and_field() {
    refused_config(
        "cache:\n  pageSize: many\n",
        "config.yaml:4:13: cache.pageSize: invalid value \"many\": expected a whole number from 1 to 10000",
    );
    refused_config(
        "cache: 5\n",
        "config.yaml:3:8: cache: expected a section with the fields syncTimeout, pageSize, persistentVolumes",
    );
}

#[test]
fn c2_bad_selector_is_refused_with_text_and_position() {
    refused_config(
        "sandboxLabelSelector: \"team in (a\"\n",
        "config.yaml:3:23: sandboxLabelSelector: invalid value \"team in (a\": at character 11: expected `,` or `)`, found the end",
    );
    Process::new(&["--sandbox-label-selector", "a b"]).refused(
        "--sandbox-label-selector: invalid value \"a b\": at character 3: expected one of `=`, `==`, `!=`, `in`, `notin`, `>`, `<`, `,` or the end, found `b`",
    );
}

#[test]
fn bad_address_is_refused() {
    refused_config(
        "metrics: {bindAddress: 8080}\n",
        "config.yaml:3:24: metrics.bindAddress: invalid value \"8080\": expected `host:port`, `:port` for every interface, or `0` to disable the listener",
    );
}

#[test]
fn bad_duration_is_refused() {
    refused_config(
        "shutdown:\n  gracePeriod: 30\n",
        "config.yaml:4:16: shutdown.gracePeriod: invalid value \"30\": expected a duration such as 500ms, 30s, 2m or 1h30m",
    );
}

#[test]
fn bad_namespace_is_refused() {
    refused_config(
        "sandboxNamespace: Team_A\n",
        "config.yaml:3:19: sandboxNamespace: invalid value \"Team_A\": expected the name of a namespace (lower-case letters, digits and `-`, beginning and ending with a letter or digit, at most 63 characters) or nothing",
    );
}

#[test]
fn a_file_of_another_kind_is_refused() {
    Process::with_config("apiVersion: apps/v1\nkind: Deployment\n").refused_with(&[
        "config.yaml:1:13: apiVersion: invalid value \"apps/v1\": expected \"config.agents.kruise.io/v1alpha1\"",
        "config.yaml:2:7: kind: invalid value \"Deployment\": expected \"SandboxManagerOptions\"",
    ]);
    Process::with_config("apiVersion: config.agents.kruise.io/v1alpha1\nkind: Other\n")
        .refused("config.yaml:2:7: kind: invalid value \"Other\": expected \"SandboxManagerOptions\"");
}

#[test]
fn a_file_that_is_no_options_file_is_refused() {
    Process::new(&["--config", "none.yaml"])
        .refused("none.yaml: cannot be read: No such file or directory (os error 2)");
    Process::with_config("").refused(
        "config.yaml: empty, expected at least `apiVersion: config.agents.kruise.io/v1alpha1` and `kind: SandboxManagerOptions`",
    );
    Process::with_config(b"a: \xff\n").refused("config.yaml:1: not UTF-8 text");
    Process::with_config("#".repeat(1_048_577))
        .refused("config.yaml: larger than 1048576 bytes, the maximum of a file of options");
    Process::with_config("a: [b\n").refused("config.yaml:1:4: not valid YAML: unclosed bracket '['");
    refused_config("cache: {}\ncache: {}\n", "config.yaml:4:1: cache: given twice, expected once");
}

#[test]
fn a_bad_variable_is_refused_by_its_name() {
    Process::new(&[]).env("SANDBOX_MANAGER_CACHE_PAGE_SIZE", "many").refused(
        "SANDBOX_MANAGER_CACHE_PAGE_SIZE: invalid value \"many\": expected a whole number from 1 to 10000",
    );
    Process::new(&[]).env("RUST_LOG", "a=b=c").refused(
        "RUST_LOG: invalid value \"a=b=c\": error parsing level filter: expected one of \"off\", \"error\", \"warn\", \"info\", \"debug\", \"trace\", or a number 0-5; expected directives such as `info,hyper=debug`",
    );
}

#[test]
fn y8_an_unknown_variable_is_refused_with_a_suggestion() {
    let line = "SANDBOX_MANAGER_CACHE_PAGESIZE: unknown variable, did you mean `SANDBOX_MANAGER_CACHE_PAGE_SIZE`? \
                (--help names every variable)";
    for arguments in [&[][..], &["config"], &["dev"]] {
        Process::new(arguments).env("SANDBOX_MANAGER_CACHE_PAGESIZE", "5").refused(line);
    }
    // A command that reads no configuration does not fail on an invalid one.
    let output = Process::new(&["crd"]).env("SANDBOX_MANAGER_CACHE_PAGESIZE", "5").output();
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn y8_all_faults_of_file_environment_and_flags_are_reported_at_once() {
    let text = format!("{HEAD}cache:\n  pageSize: many\n  zzz: 5\nlog: {{level: loud}}\n");
    let faulty = |arguments: &[&str]| {
        Process::new(&[&["--config", "config.yaml", "--kube-api-burst", "0"], arguments].concat())
            .file("config.yaml", &text)
            .env("SANDBOX_MANAGER_LOG_FORMAT", "xml")
            .env("SANDBOX_MANAGER_ZZZ", "1")
            .env("RUST_LOG", "a=b=c")
    };
    let mut expected = vec![
        "config.yaml:4:13: cache.pageSize: invalid value \"many\": expected a whole number from 1 to 10000",
        "config.yaml:5:3: cache.zzz: unknown field (accepted here: syncTimeout, pageSize, persistentVolumes)",
        "config.yaml:6:14: log.level: invalid value \"loud\": expected one of error, warn, info, debug, trace",
        "SANDBOX_MANAGER_LOG_FORMAT: invalid value \"xml\": expected one of json, text",
        "SANDBOX_MANAGER_ZZZ: unknown variable (--help names every variable)",
        "--kube-api-burst: invalid value \"0\": expected a whole number from 1 to 1000000",
        "RUST_LOG: invalid value \"a=b=c\": error parsing level filter: expected one of \"off\", \"error\", \"warn\", \"info\", \"debug\", \"trace\", or a number 0-5; expected directives such as `info,hyper=debug`",
    ];
    faulty(&[]).refused_with(&expected);
    // The flag overrides the level of the file and of RUST_LOG: the file is still faulty, RUST_LOG is not used.
    expected.pop();
    faulty(&["--log-level=info"]).refused_with(&expected);
}

#[test]
fn a_bad_flag_is_refused_by_its_name() {
    Process::new(&["--log-level", "loud"])
        .refused("--log-level: invalid value \"loud\": expected one of error, warn, info, debug, trace");
    Process::new(&["--kube-api-qps", "-1"])
        .refused("--kube-api-qps: invalid value \"-1\": expected a whole number from 0 to 1000000");
    let output = Process::new(&["--cache-page-siz", "5"]).output();
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.starts_with("error: unexpected argument '--cache-page-siz' found\n"), "{text}");
    assert!(text.contains("'--cache-page-size'"), "{text}");
}

#[test]
fn no_kubeconfig_is_refused_with_what_to_do() {
    let output = Process::new(&[]).output();
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(
        text.starts_with("error: no usable kubeconfig: KUBECONFIG is not set, there is no ~/.kube/config, "),
        "{text}"
    );
    assert!(
        text.ends_with("; choose a kubeconfig file or set KUBECONFIG (--kubeconfig FILE, --context NAME)\n"),
        "{text}"
    );

    let missing = "none.yaml cannot be read: No such file or directory (os error 2); choose another \
                   kubeconfig file or another context (--kubeconfig FILE, --context NAME)";
    Process::new(&["--kubeconfig", "none.yaml"])
        .refused(&format!("no usable kubeconfig: none.yaml: {missing}"));
    Process::new(&[])
        .env("KUBECONFIG", "none.yaml")
        .refused(&format!("no usable kubeconfig: KUBECONFIG=none.yaml: {missing}"));
}

#[test]
fn layers_win_in_order_and_what_is_printed_is_a_file() {
    let config = |process: Process| {
        let output = process.output();
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let text = format!("{HEAD}sandboxNamespace: file\nsystemNamespace: file\nlog: {{level: warn}}\n");
    let first = config(
        Process::new(&["config", "--config", "config.yaml", "--sandbox-namespace", "flag"])
            .file("config.yaml", text)
            .env("SANDBOX_MANAGER_SANDBOX_NAMESPACE", "variable")
            .env("SANDBOX_MANAGER_SYSTEM_NAMESPACE", "variable")
            .env("SANDBOX_MANAGER_LOG_LEVEL", ""),
    );
    for line in
        ["sandboxNamespace: flag", "systemNamespace: variable", "  level: warn", "  bindAddress: :8080"]
    {
        assert!(first.lines().any(|printed| printed == line), "{line} is not in\n{first}");
    }
    let again =
        Process::new(&["config"]).file("again.yaml", &first).env("SANDBOX_MANAGER_CONFIG", "again.yaml");
    assert_eq!(config(again), first);
}

#[test]
fn the_documented_file_is_accepted_and_holds_the_defaults() {
    let documented = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("config/manager/config.yaml");
    let with = Process::new(&["config", "--config", documented.to_str().unwrap()]).output();
    let without = Process::new(&["config"]).output();
    assert_eq!(with.status.code(), Some(0));
    assert_eq!(with, without);
}
