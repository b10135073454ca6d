//! Tests `sandbox-manager dev` as a user runs it: its output, the printed commands, and the cleanup.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use anyhow::{Context as _, ensure};
use kube::api::ListParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use sandbox_manager::api::v1alpha1::Sandbox;
use sandbox_manager::dev::sample;

use crate::support::{SOON, eventually, get, is_installed};

/// The running command and its standard output.
struct Dev {
    child: Child,
    banner: String,
    folder: tempfile::TempDir,
}

fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sandbox-manager"));
    command
        .arg("dev")
        .args(arguments)
        .env_clear()
        .env("HOME", folder)
        .env("TMPDIR", folder)
        // The command uses no proxy for its own API server (behaviour Y1), so a proxy that is away is no harm.
        .env("HTTPS_PROXY", "http://127.0.0.1:1")
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

impl Dev {
    /// Starts the command on free ports and waits until it has printed its addresses.
    async fn start(arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let free = [
            "--metrics-bind-address=127.0.0.1:0",
            "--health-probe-bind-address=127.0.0.1:0",
            "--e2b-bind-address=127.0.0.1:0",
        ];
        let mut child = command(folder.path(), &[&free, arguments].concat()).spawn().unwrap();
        let output = child.stdout.take().unwrap();
        let errors = child.stderr.take().unwrap();
        // Standard error is read to the end, so that the command never blocks on a full pipe.
        std::thread::spawn(move || BufReader::new(errors).lines().map_while(Result::ok).for_each(drop));
        let banner = tokio::task::spawn_blocking(move || {
            let mut lines = BufReader::new(output).lines().map_while(Result::ok);
            let mut banner = String::new();
            for line in lines.by_ref() {
                banner += &line;
                banner.push('\n');
                if line.contains("readyz?verbose") {
                    break;
                }
            }
            banner
        });
        let banner = tokio::time::timeout(2 * SOON, banner).await.expect("the banner").unwrap();
        Self { child, banner, folder }
    }

    /// Returns the text after a word of the banner.
    fn place(&self, of: &str) -> &str {
        let line = self.banner.lines().find_map(|line| line.trim_start().strip_prefix(of));
        line.and_then(|line| line.split_whitespace().next())
            .unwrap_or_else(|| panic!("{of}: {}", self.banner))
    }

    fn kubeconfig(&self) -> PathBuf {
        let export = self.banner.split("export KUBECONFIG=").nth(1).expect("the export line");
        export.lines().next().unwrap().into()
    }

    /// Returns the printed commands that a user can try.
    fn commands(&self) -> Vec<&str> {
        let after = self.banner.split("Then try:").nth(1).expect("commands to try");
        after.lines().map(str::trim).filter(|line| !line.is_empty()).collect()
    }

    async fn interrupt(&mut self) -> ExitStatus {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", "INT", &pid]).status().unwrap().success());
        eventually("it has ended", SOON, async || self.child.try_wait()?.context("it runs")).await
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn what_is_printed_works_and_nothing_is_left_after_ctrl_c() {
    let mut dev = Dev::start(&["--sandboxes", "30"]).await;
    let health = dev.place("health").strip_prefix("http://").unwrap().split('/').next().unwrap().to_owned();
    assert_eq!(get(&health, "/readyz").await.unwrap().body, "ok");
    let all = 30 + sample::SANDBOXES;
    assert!(dev.banner.contains(&format!("{all} sandboxes")), "{}", dev.banner);

    let kubeconfig = dev.kubeconfig();
    let programs = std::env::var("PATH").unwrap_or_default();
    let run = |line: &str| {
        let mut shell = Command::new("sh");
        shell
            .arg("-c")
            .arg(line)
            .env("PATH", &programs)
            .env("KUBECONFIG", &kubeconfig)
            .env("HOME", dev.folder.path());
        let output = shell.output().unwrap();
        let printed = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{line}: {printed}{}", String::from_utf8_lossy(&output.stderr));
        printed
    };
    if ["kubectl", "curl"].into_iter().all(is_installed) {
        let commands = dev.commands();
        let [list, scale, pause, metrics, ready] = commands[..] else { panic!("{commands:?}") };
        let printed = run(list);
        for part in ["sandboxset", "sandbox.agents.kruise.io/workbench", "Completed", "pod/workbench"] {
            assert!(printed.contains(part), "{part}: {printed}");
        }
        assert!(run(scale).contains("scaled"), "{scale}");
        run("kubectl create -f - <<'END'\n\
             {\"apiVersion\": \"agents.kruise.io/v1alpha1\", \"kind\": \"Sandbox\", \"metadata\": {\"name\": \"late\", \
             \"ownerReferences\": [{\"apiVersion\": \"agents.kruise.io/v1alpha1\", \"kind\": \"SandboxSet\", \
             \"name\": \"gone\", \"uid\": \"gone\"}]}, \"spec\": {}}\nEND");
        eventually("the garbage collector has removed what comes after its owner", SOON, async || {
            ensure!(run("kubectl get sandbox late --ignore-not-found").is_empty());
            Ok(())
        })
        .await;
        eventually("the pool has grown, with a pod for each member", SOON, async || {
            let printed = run("kubectl get sbs code-interpreter -o jsonpath={.status.availableReplicas}");
            ensure!(printed == "20", "{printed}");
            let pods = run("kubectl get pods --no-headers");
            ensure!(pods.matches("Running").count() == 22, "{pods}");
            Ok(())
        })
        .await;
        assert!(run(pause).contains("patched"), "{pause}");
        let has_pod =
            || run("kubectl get pods --ignore-not-found workbench --no-headers").contains("Running");
        eventually("a paused sandbox has no pod", SOON, async || {
            let phase = run("kubectl get sandbox workbench -o jsonpath={.status.phase}");
            ensure!(phase == "Paused" && !has_pod(), "{phase}");
            Ok(())
        })
        .await;
        run(&pause.replace("true", "false"));
        eventually("a resumed sandbox has a pod again", SOON, async || {
            ensure!(has_pod(), "no pod");
            Ok(())
        })
        .await;
        eventually("the members show in the metrics", SOON, async || {
            let printed = run(metrics);
            ensure!(printed.contains("state=\"available\"} 20"), "{printed}");
            Ok(())
        })
        .await;
        assert!(run(ready).contains("[+]informer/sandboxes ok"), "{ready}");
        // No controller acts on the static fleet: it has no pods, and would have failed else.
        let of_fleet =
            run("kubectl get sandboxes -l app.example.com/tier -o jsonpath={.items[*].status.phase}");
        assert_eq!(of_fleet.split_whitespace().filter(|phase| *phase == "Running").count(), 30, "{of_fleet}");
    }

    assert_eq!(dev.interrupt().await.code(), Some(0));
    assert!(!kubeconfig.exists());
    let left: Vec<_> =
        std::fs::read_dir(dev.folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| name == ".kube"), "{left:?}");
}

#[tokio::test]
async fn the_kubeconfig_is_the_owner_s_alone_and_leads_to_a_server_that_asks_for_its_token() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kubeconfig");
    let dev = Dev::start(&["--kubeconfig", path.to_str().unwrap()]).await;
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);

    let client = async |kubeconfig: Kubeconfig| {
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
        Client::try_from(config).unwrap()
    };
    let mut kubeconfig = Kubeconfig::read_from(&path).unwrap();
    let sandboxes: Api<Sandbox> = Api::default_namespaced(client(kubeconfig.clone()).await);
    let all = sandboxes.list(&ListParams::default()).await.unwrap().items.len();
    assert_eq!(i32::try_from(all).unwrap(), sample::SANDBOXES);
    for auth in &mut kubeconfig.auth_infos {
        auth.auth_info = None;
    }
    let nobody: Api<Sandbox> = Api::default_namespaced(client(kubeconfig).await);
    nobody.list(&ListParams::default()).await.unwrap_err();
    assert!(dev.place("API server").starts_with("https://127.0.0.1:"), "{}", dev.banner);
}

#[test]
fn bad_input_is_refused_in_one_line_with_what_is_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    std::fs::write(folder.path().join("there"), "").unwrap();
    let cases: [(&[&str], String); 5] = [
        (
            &["--listen", "6443"],
            "--listen: invalid value \"6443\": expected an address such as 127.0.0.1:6443".into(),
        ),
        (
            &["--sandboxes", "-1"],
            "--sandboxes: invalid value \"-1\": expected a whole number from 0 to 1000000".into(),
        ),
        (&["--listen", &address], format!("--listen: cannot listen on {address}: Address already in use")),
        (&["--kubeconfig", "there"], "--kubeconfig: cannot write there: File exists".into()),
        (&["--kubeconfig", "no/where"], "--kubeconfig: cannot write no/where: No such file".into()),
    ];
    for (arguments, expected) in cases {
        let mut child = command(folder.path(), arguments).spawn().unwrap();
        let mut text = String::new();
        child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(2), "{text}");
        assert!(text.starts_with(&format!("error: {expected}")), "{text}");
        assert_eq!(text.lines().count(), 1, "{text}");
    }
}
