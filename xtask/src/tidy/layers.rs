//! Which crate may depend on which: medical, proto, model, runtime, then the binaries, and never back.

use super::Finding;
use crate::workspace::Package;

/// The workspace's own libraries, from the ground up. Each may use those before it.
const LAYERS: [&str; 4] = ["gantry-medical", "gantry-proto", "gantry-model", "gantry-runtime"];

/// All that the model may be linked with: no input or output, no tasks, no clock of its own.
/// (jiff is there for points in time; the clock is in the runtime.)
const MODEL_MAY_USE: [&str; 8] =
    ["bytes", "gantry-proto", "jiff", "prost", "prost-types", "regex", "sha2", "thiserror"];

/// The crate with the tests of the real binaries, and the library that it tests by itself as well: the
/// kernel client, which needs the kernel that those tests run on.
const TESTS: &str = "gantry-tests";
const TESTS_MAY_USE: [&str; 1] = ["gantry-agent-l4"];

pub(super) fn check(packages: &[Package]) -> Vec<Finding> {
    packages.iter().flat_map(|package| check_package(package, packages)).collect()
}

fn check_package(package: &Package, packages: &[Package]) -> Vec<Finding> {
    let own = |name: &str| packages.iter().any(|package| package.name == name);
    let layer = LAYERS.iter().position(|name| *name == package.name);
    let allowed = &LAYERS[..layer.unwrap_or(LAYERS.len())];
    // What tests of a crate use is not what the crate is made of, but layers hold for them too.
    let inside = package.dependencies.iter().filter(|dependency| own(&dependency.name));
    let inside = inside.filter(|dependency| {
        !TESTS_MAY_USE.contains(&dependency.name.as_str()) || package.name != TESTS
    });
    let up = inside.filter(|dependency| !allowed.contains(&dependency.name.as_str())).map(
        |dependency| {
            let what = format!("{} depends on {}", package.name, dependency.name);
            let way_out = match layer {
                Some(_) => {
                    "layers point one way (proto, model, runtime, binaries): move the code \
                            down, or what needs it up"
                }
                None => "no binary depends on another: move what both need to model or runtime",
            };
            finding(package, what, way_out)
        },
    );
    let model = package.dependencies.iter().filter(|dependency| {
        package.name == "gantry-model"
            && dependency.kind.as_deref() != Some("dev")
            && !MODEL_MAY_USE.contains(&dependency.name.as_str())
    });
    let impure = model.map(|dependency| {
        let what = format!("the model depends on {}", dependency.name);
        finding(
            package,
            what,
            "the model has no I/O, no tasks and no clock: if this crate has neither, add it to \
             MODEL_MAY_USE in xtask/src/tidy/layers.rs",
        )
    });
    up.chain(impure).collect()
}

fn finding(package: &Package, what: String, way_out: &'static str) -> Finding {
    let mut folders = package.manifest_path.components().rev().skip(1);
    let folder = folders.next().map(|folder| folder.as_os_str().to_string_lossy().into_owned());
    let path = format!("{}/Cargo.toml", folder.unwrap_or_default());
    Finding { path, line: 0, what, way_out }
}
