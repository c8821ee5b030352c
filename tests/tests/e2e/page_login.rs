//! The login of the System Overview page, asked by a client that is no browser: who gets in, which forms
//! are taken, and what ends a session.

use gantry_proto::v1::real_server_status::State as ServerState;
use gantry_tests::process::{Ran, binary, program, run};
use gantry_tests::services::{layer7, server};
use gantry_tests::{Site, eventually};

/// `curl` with a jar for cookies: a client that is no browser.
async fn curl(site: &Site, arguments: &[&str]) -> Ran {
    let jar = site.dir().join("cookies");
    let jar = jar.to_str().unwrap();
    let always =
        ["-sk", "--max-time", "30", "-b", jar, "-c", jar, "-w", "\n%{http_code} %{redirect_url}"];
    run(&program("curl", "curl"), always.iter().chain(arguments), site.dir()).await
}

/// The token in the form of a page.
async fn form_token(site: &Site, path: &str) -> String {
    let page = curl(site, &[&format!("{}{path}", site.page())]).await.output();
    let (_, rest) = page.split_once("name=\"form_token\" value=\"").expect("a form with a token");
    rest.split('"').next().unwrap().to_owned()
}

/// Logs in with curl; gives the answer.
async fn curl_in(site: &Site, password: &str) -> String {
    let token = form_token(site, "/login").await;
    let fields = format!("user=admin&password={password}&form_token={token}");
    curl(site, &["-d", &fields, &format!("{}/login", site.page())]).await.output()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn page_refuses_strangers_foreign_forms_and_wrong_passwords() {
    let site = Site::with_page().await;
    let listen = site.block.socket(10, 80);
    site.create("web", layer7(listen), vec![server("one", site.block.socket(20, 80))]).await;
    let page = site.page();
    let password = site.page_password().await;
    let halt = format!("{page}/servers/main/web/one/halt");
    // Nobody sees or does anything without a login.
    for path in ["/", "/password", "/servers/main/web/one/halt"] {
        let answer = curl(&site, &[&format!("{page}{path}")]).await.output();
        assert!(answer.ends_with(&format!("303 {page}/login")), "{path}: {answer}");
    }
    assert!(curl(&site, &[&format!("{page}/stream")]).await.output().ends_with("401 "));
    assert!(curl(&site, &["-d", "", &halt]).await.output().ends_with(&format!("303 {page}/login")));
    // A login needs the form's token, and the right password.
    let fields = format!("user=admin&password={password}");
    let answer = curl(&site, &["-d", &fields, &format!("{page}/login")]).await.output();
    assert!(answer.ends_with("403 "), "{answer}");
    let answer = curl_in(&site, "wrong").await;
    assert!(answer.contains("User or password is wrong") && answer.ends_with("403 "), "{answer}");
    let event = site.event("users", "LOGIN_FAILED").await;
    assert!(event.message.contains("127."), "{}", event.message);
    let answer = curl_in(&site, &password).await;
    assert!(answer.ends_with(&format!("303 {page}/")), "{answer}");
    assert_eq!(site.event("users/admin", "LOGIN").await.actor, "users/admin");
    let cookies = std::fs::read_to_string(site.dir().join("cookies")).unwrap();
    assert!(cookies.contains("#HttpOnly_") && cookies.contains("__Host-gantry"), "{cookies}");
    // A form of another site, or without the session's token, does nothing.
    let token = form_token(&site, "/servers/main/web/one/halt").await;
    let good = format!("form_token={token}");
    for (fields, header) in [
        ("form_token=", "Accept: */*"),
        ("form_token=0123456789abcdef", "Accept: */*"),
        (good.as_str(), "Origin: https://evil.example"),
        (good.as_str(), "Origin: null"),
        (good.as_str(), "Sec-Fetch-Site: cross-site"),
    ] {
        let answer = curl(&site, &["-d", fields, "-H", header, &halt]).await.output();
        assert!(answer.ends_with("403 "), "{fields} {header}: {answer}");
    }
    assert_ne!(site.server_status("web", "one").await.state(), ServerState::Halted);
    let answer =
        curl(&site, &["-d", &good, "-H", &format!("Origin: {page}"), &halt]).await.output();
    assert!(answer.ends_with(&format!("303 {page}/")), "{answer}");
    site.server_reaches("web", "one", ServerState::Halted).await;
    // What is not there is refused with a reason; too long a form too.
    let missing = halt.replace("one", "none");
    let answer = curl(&site, &[&missing]).await.output();
    assert!(answer.contains("there is no real server") && answer.ends_with("404 "), "{answer}");
    let long = format!("comment={}", "x".repeat(20_000));
    assert!(curl(&site, &["-d", &long, &halt]).await.output().ends_with("413 "));
    let head = curl(&site, &["-I", &page]).await.output().to_lowercase();
    for header in
        ["content-security-policy: default-src 'none'", "x-frame-options: deny", "no-store"]
    {
        assert!(head.contains(header), "{head}");
    }
    assert!(!head.contains("strict-transport"), "not with a certificate of one's own");
    for _ in 0..5 {
        curl_in_anew(&site, "wrong").await;
    }
    let answer = curl_in_anew(&site, &password).await;
    assert!(answer.contains("Too many attempts") && answer.ends_with("429 "), "{answer}");
}

/// Logs in without the session there was.
async fn curl_in_anew(site: &Site, password: &str) -> String {
    let _ = std::fs::remove_file(site.dir().join("cookies"));
    curl_in(site, password).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn page_password_is_changed_and_reset_and_ends_every_session() {
    let mut site = Site::with_page().await;
    let page = site.page();
    let first = site.page_password().await;
    let state = site.dir().join("controller");
    let database = std::fs::read(state.join("gantry.db")).unwrap();
    assert!(!database.windows(first.len()).any(|part| part == first.as_bytes()), "kept nowhere");
    curl_in(&site, &first).await;
    let token = form_token(&site, "/password").await;
    let change = |old: &str, new: &str, token: &str| {
        format!("old={old}&new={new}&again={new}&form_token={token}")
    };
    let url = format!("{page}/password");
    let answer = curl(&site, &["-d", &change(&first, "short", &token), &url]).await.output();
    assert!(answer.contains("at least 12 characters") && answer.ends_with("400 "), "{answer}");
    let answer =
        curl(&site, &["-d", &change("wrong", "correct+horse+9", &token), &url]).await.output();
    assert!(answer.ends_with("403 "), "{answer}");
    let answer =
        curl(&site, &["-d", &change(&first, "correct+horse+9", &token), &url]).await.output();
    assert!(answer.ends_with(&format!("303 {page}/login?said=changed")), "{answer}");
    assert!(curl(&site, &[&page]).await.output().ends_with(&format!("303 {page}/login")));
    site.event("users/admin", "PASSWORD_CHANGED").await;
    assert!(curl_in(&site, &first).await.ends_with("403 "), "the old one is worth nothing");
    assert!(curl_in(&site, "correct+horse+9").await.ends_with(&format!("303 {page}/")));
    // Lost: reset on the controller's machine, while it runs.
    let arguments = ["reset-password", "--state", state.to_str().unwrap()];
    let told = run(&binary("gantry-controller"), arguments, site.dir()).await.output();
    let line = told.lines().find(|line| line.contains("  password  ")).unwrap();
    let reset = line.trim().trim_start_matches("password").trim().to_owned();
    assert!(curl(&site, &[&page]).await.output().ends_with(&format!("303 {page}/login")));
    assert!(curl_in(&site, &reset).await.ends_with(&format!("303 {page}/")));
    eventually("the reset is on record", async || {
        let events = site.events("users/admin").await;
        events.iter().any(|event| event.r#type == "PASSWORD_RESET").then_some(())
    })
    .await;
    let token = form_token(&site, "/password").await;
    let fields = format!("form_token={token}");
    let answer = curl(&site, &["-d", &fields, &format!("{page}/logout")]).await.output();
    assert!(answer.ends_with(&format!("303 {page}/login")), "{answer}");
    assert!(curl(&site, &[&page]).await.output().ends_with(&format!("303 {page}/login")));
    site.event("users/admin", "LOGOUT").await;
    // A second start shows no password, and the one that is good stays so.
    site.controller.stop().await;
    site.controller.start_again();
    site.controller.says_times("serving the System Overview page", 2).await;
    assert_eq!(site.controller.log().matches("  password  ").count(), 1);
    assert!(curl_in(&site, &reset).await.ends_with(&format!("303 {page}/")));
}
