//! What the command does without a controller: contexts, usage, and saying that nobody answers.

use std::path::Path;
use std::process::Command;

fn gantry(dir: &Path, line: &str) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_gantry"))
        .args(line.split_whitespace())
        .env_clear()
        .env("HOME", dir)
        .current_dir(dir)
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[test]
fn contexts_are_kept_in_the_settings_file() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    assert!(gantry(dir, "context list").2.contains("no contexts in"));
    let set = "context set lab --controller https://lb:7443 --identity id --cluster main";
    assert_eq!(gantry(dir, set).0, 0);
    assert_eq!(gantry(dir, "context set site --controller https://x:1 --identity /id").0, 0);
    let written = std::fs::read_to_string(dir.join(".config/gantry/config.toml")).unwrap();
    let expected = format!(
        "current = \"lab\"\n\n[contexts.lab]\ncontroller = \"https://lb:7443\"\nidentity = \
         \"{}\"\ncluster = \"main\"\n\n[contexts.site]\ncontroller = \"https://x:1\"\nidentity = \
         \"/id\"\n",
        dir.canonicalize().unwrap().join("id").display()
    );
    assert_eq!(written, expected);
    assert_eq!(gantry(dir, "context use site").1, "using site\n");
    assert!(gantry(dir, "context list").1.contains("*  site"));
    let (code, _, error) = gantry(dir, "context use lap");
    assert_eq!((code, error.as_str()), (2, "error: unknown context \"lap\": did you mean lab?\n"));
    assert_eq!(gantry(dir, "context delete site").0, 0);
    assert!(gantry(dir, "overview").2.contains("no controller to call"));
}

#[test]
fn a_controller_that_is_not_there_is_exit_code_3() {
    let dir = tempfile::tempdir().unwrap();
    let (key, request) = gantry_runtime::identity::new_key().unwrap();
    drop(request);
    let pair = rcgen::KeyPair::from_pem(&key).unwrap();
    let mut params = rcgen::CertificateParams::default();
    let uri = "gantry:users/anna".try_into().unwrap();
    params.subject_alt_names.push(rcgen::SanType::URI(uri));
    let certificate = params.self_signed(&pair).unwrap().pem();
    let id = dir.path().join("id");
    gantry_runtime::identity::Identity::save(&id, &certificate, &certificate, &key).unwrap();
    // Nothing has listened on port 1 (tcpmux) for decades.
    let line = "overview --identity id --controller https://127.0.0.1:1";
    let (code, _, error) = gantry(dir.path(), line);
    assert_eq!(code, 3, "{error}");
    assert!(error.contains("cannot reach the controller at https://127.0.0.1:1:"), "{error}");
    assert!(error.contains("is gantry-controller running there?"), "{error}");
}

#[test]
fn wrong_usage_is_exit_code_2() {
    let dir = tempfile::tempdir().unwrap();
    for line in [
        "",
        "frobnicate",
        "get",
        "get vs -o xml",
        "create vs x --address 10.0.0.1 --port 104",
        "create vs x --address 10.0.0.1 --port 104 --layer4 dr --layer7",
        "create vs x --address here --port 104 --layer7",
        "create vs --address 10.0.0.1 --port 104 --layer7",
        "create vs x -f y --layer7",
        "drain a/b --halt-after soon",
        "describe UPPER",
        "set a/b",
        "overview --controller http://plain --identity .",
        "join --token x --dir id",
        "overview --timeout soon",
        "overview --timeout 0s",
        "apply -f x --dry-run --wait",
        "explain virtualService.lisener",
        "completions tcsh",
    ] {
        let (code, out, error) = gantry(dir.path(), line);
        assert_eq!((code, out.as_str()), (2, ""), "{line}: {error}");
        assert!(!error.is_empty(), "{line}");
    }
}

#[test]
fn every_command_explains_itself_with_an_example() {
    let dir = tempfile::tempdir().unwrap();
    for command in [
        "overview",
        "get",
        "describe",
        "create vs",
        "create rs",
        "create cluster",
        "set",
        "delete",
        "drain",
        "halt",
        "online",
        "events",
        "plan",
        "apply",
        "export",
        "history",
        "diff",
        "rollback",
        "explain",
        "completions",
        "invite",
        "join",
        "context",
    ] {
        let (code, out, _) = gantry(dir.path(), &format!("{command} --help"));
        assert_eq!(code, 0, "{command}");
        let kind = command.split(' ').next().unwrap();
        assert!(out.contains("Example") && out.contains(&format!("\n  gantry {kind}")), "{out}");
        let longest = out.lines().map(|line| line.chars().count()).max().unwrap();
        assert!(longest <= 100, "{command} has a line of {longest} columns");
    }
    let version = concat!("gantry ", env!("CARGO_PKG_VERSION"), "\n");
    assert_eq!(gantry(dir.path(), "version"), (0, version.to_owned(), String::new()));
}

#[test]
fn shells_get_what_completes_the_commands() {
    let dir = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish"] {
        let (code, out, error) = gantry(dir.path(), &format!("completions {shell}"));
        assert_eq!(code, 0, "{error}");
        assert!(out.contains("rollback") && out.contains("dry-run"), "{shell}");
    }
}

#[test]
fn fields_are_explained_without_a_controller() {
    let dir = tempfile::tempdir().unwrap();
    let (code, out, error) = gantry(dir.path(), "explain virtualService.listener.ports");
    assert_eq!((code, error.as_str()), (0, ""));
    assert!(out.contains("One or more ports or ranges"), "{out}");
}
