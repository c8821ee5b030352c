//! A CA of the operator's own instead of the built-in one.

use std::path::Path;

use gantry_proto::v1 as pb;
use gantry_runtime::{identity, join};
use gantry_tests::own_ca::{OwnCa, openssl, root};
use gantry_tests::{Process, Site, eventually};
use pb::ca_certificate::State;
use tonic::Code;

/// An intermediate with a key on a curve, and the chain up to its root.
async fn intermediate(dir: &Path, name: &str, above: &OwnCa) -> OwnCa {
    let (root, root_key) = (above.chain.display(), above.key.display());
    openssl(
        dir,
        &format!(
            "req -new -newkey ec -pkeyopt ec_paramgen_curve:P-384 -noenc \
             -subj /O=Hospital/CN={name} -keyout {name}.key -out {name}.csr \
             -addext basicConstraints=critical,CA:TRUE,pathlen:0 \
             -addext keyUsage=critical,keyCertSign"
        ),
    )
    .await;
    openssl(
        dir,
        &format!(
            "x509 -req -in {name}.csr -CA {root} -CAkey {root_key} -days 20 \
             -copy_extensions copyall -out {name}-alone.pem"
        ),
    )
    .await;
    let read = |path: &Path| std::fs::read_to_string(path).unwrap();
    let chain = dir.join(format!("{name}.pem"));
    let text = read(&dir.join(format!("{name}-alone.pem"))) + &read(&above.chain);
    std::fs::write(&chain, text).unwrap();
    OwnCa { chain, key: dir.join(format!("{name}.key")) }
}

async fn authority(site: &Site) -> pb::Authority {
    site.authority().get_authority(pb::GetAuthorityRequest {}).await.unwrap().into_inner()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn identity_a_root_of_ones_own_signs() {
    let dir = tempfile::tempdir().unwrap();
    let root = root(dir.path(), "root").await;
    let mut site = Site::start_with(&root.arguments()).await;
    let trusted = std::fs::read_to_string(site.identity_of("lb1").join("ca.pem")).unwrap();
    assert_eq!(trusted.trim(), std::fs::read_to_string(&root.chain).unwrap().trim());
    let found = authority(&site).await;
    assert_eq!(found.certificates.len(), 1);
    assert_eq!(found.certificates[0].subject, "O=Hospital, CN=root");
    assert!(
        !site.dir().join("controller/ca.pem").exists(),
        "no CA of the controller's own is made"
    );
    let refused = site.authority().rotate_authority(pb::RotateAuthorityRequest::default()).await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("--retiring-ca-certificate"), "{refused}");
    site.controller.kill();
    site.controller.start_again();
    site.agents_report().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn identity_an_intermediate_signs_and_gives_way_to_another_over_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (root(dir.path(), "one").await, root(dir.path(), "two").await);
    let first = intermediate(dir.path(), "first", &one).await;
    let second = intermediate(dir.path(), "second", &two).await;
    let mut site = Site::start_with(&first.arguments()).await;
    let trusted =
        |site: &Site| std::fs::read_to_string(site.identity_of("lb1").join("ca.pem")).unwrap();
    let read = |path: &Path| std::fs::read_to_string(path).unwrap();
    let same = |trusted: &str, made: &[&OwnCa]| {
        let made: String = made.iter().map(|made| read(&made.chain)).collect();
        let ders = |text: &str| -> Vec<_> {
            pem::parse_many(text).unwrap().into_iter().map(pem::Pem::into_contents).collect()
        };
        ders(trusted) == ders(&made)
    };
    assert!(same(&trusted(&site), &[&one]), "clients trust the top of the chain");
    // Another CA takes over, with the first beside it until all have changed.
    let mut both = second.arguments().to_vec();
    let [chain, key] = [&first.chain, &first.key].map(|path| path.to_str().unwrap());
    both.extend(["--retiring-ca-certificate", chain, "--retiring-ca-key", key]);
    site.restart_controller_with("controller-both", &both).await;
    eventually("every appliance shows a certificate of the new CA", async || {
        let authority = authority(&site).await;
        let states: Vec<_> = authority.certificates.iter().map(|it| it.state()).collect();
        assert_eq!(states, [State::Signing, State::Retiring]);
        (authority.waiting_for.is_empty() && same(&trusted(&site), &[&two, &one])).then_some(())
    })
    .await;
    let refused = site.authority().retire_authority(pb::RetireAuthorityRequest::default()).await;
    let refused = refused.unwrap_err();
    assert!(refused.message().contains("without --retiring-ca-certificate"), "{refused}");
    join::join(&site.url, &site.invite("lb2").await, &site.identity_of("lb2")).await.unwrap();
    site.restart_controller_with("controller-after", &second.arguments()).await;
    site.agents_report().await;
    assert_eq!(authority(&site).await.certificates[0].subject, "O=Hospital, CN=two");
    let name = identity::Identity::load(&site.identity_of("lb1")).unwrap().name().to_owned();
    assert_eq!(name, "clusters/main/appliances/lb1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn identity_a_ca_that_cannot_sign_stops_the_start_and_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (root(dir.path(), "one").await, root(dir.path(), "two").await);
    let path = gantry_tests::process::binary("gantry-controller");
    let (chain, key) = (one.chain.to_str().unwrap(), two.key.to_str().unwrap());
    let state = dir.path().join("state");
    let mut arguments = vec!["--listen", "127.0.0.1:0", "--state", state.to_str().unwrap()];
    arguments.extend(["--ca-certificate", chain, "--ca-key", key]);
    let mut controller = Process::start("controller", &path, arguments, dir.path());
    assert!(!controller.ended().await.success());
    let words = "cannot be used as the certificate authority: the key is not that of";
    assert!(controller.log().contains(words), "{}", controller.log());
}
