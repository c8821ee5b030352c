//! What the tests need beside Rust, in one list, and how to get it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

use crate::say;
use crate::workspace::{find_program, run};

/// A Debian package, and a program of it by which it is known to be there.
#[derive(Debug)]
struct Need {
    package: &'static str,
    program: &'static str,
    why: &'static str,
}

const NEEDS: [Need; 26] = [
    Need { package: "dcmtk", program: "storescu", why: "a DICOM peer from another house" },
    Need { package: "orthanc", program: "Orthanc", why: "a DICOM archive from another house" },
    Need { package: "haproxy", program: "haproxy", why: "a proxy from another house" },
    Need { package: "nginx", program: "nginx", why: "a web server from another house" },
    Need { package: "nghttp2-client", program: "h2load", why: "a client of HTTP/2" },
    Need { package: "wrk", program: "wrk", why: "many clients of HTTP/1.1" },
    Need { package: "curl", program: "curl", why: "an HTTP client from another house" },
    Need { package: "iproute2", program: "ip", why: "network namespaces" },
    Need { package: "iputils-arping", program: "arping", why: "asks who has an address" },
    Need { package: "openssl", program: "openssl", why: "certificates from another house" },
    Need { package: "sqlite3", program: "sqlite3", why: "reads a database without Gantry" },
    Need { package: "util-linux", program: "nsenter", why: "disks that are full or read-only" },
    Need { package: "python3-venv", program: "python3", why: "a gRPC client in another language" },
    Need { package: "nodejs", program: "node", why: "runs buf, and drives the browser" },
    Need { package: "npm", program: "npm", why: "installs both" },
    Need { package: "chromium", program: "chromium", why: "shows the System Overview page" },
    Need { package: "qemu-system-x86", program: "qemu-system-x86_64", why: "a kernel with IPVS" },
    Need { package: "busybox-static", program: "busybox", why: "starts that kernel" },
    Need { package: "kmod", program: "modprobe", why: "the modules of that kernel" },
    Need { package: "xz-utils", program: "xz", why: "unpacks that kernel" },
    Need { package: "cpio", program: "cpio", why: "packs what that kernel starts with" },
    Need { package: "ipvsadm", program: "ipvsadm", why: "reads and programs IPVS without Gantry" },
    Need { package: "nftables", program: "nft", why: "reads and programs the packet filter" },
    Need { package: "freerdp2-x11", program: "xfreerdp", why: "a client of Remote Desktop" },
    Need { package: "xvfb", program: "Xvfb", why: "a screen for that client" },
    Need { package: "keepalived", program: "keepalived", why: "a VRRP router from another house" },
];

/// Runs programs under a kernel with IPVS, below the workspace's folder.
pub(crate) const KERNEL_VM: &str = "tests/kernel-vm/kernel-vm";

/// The linter of the API, which is also a gRPC client from another house.
const BUF: &str = "@bufbuild/buf@1.75.0";
/// Drives the browser; it brings none of its own.
const PLAYWRIGHT: &str = "playwright-core@1.65.1";

/// What a gRPC client in Python is generated with, and reads errors with; WebSocket on both sides; an
/// engine of HL7.
const PYTHON: [&str; 4] =
    ["grpcio-tools==1.85.1", "grpcio-status==1.85.1", "websockets==17.4", "hl7==0.4.5"];

/// Installs the packages that are missing; says which, when this is not root.
pub(crate) fn install_packages() -> anyhow::Result<()> {
    let missing: Vec<&Need> =
        NEEDS.iter().filter(|need| find_program(need.program).is_none()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    for Need { package, why, .. } in &missing {
        say(format_args!("missing: {package}, {why}"));
    }
    let packages: Vec<&str> = missing.iter().map(|need| need.package).collect();
    if !rustix::process::geteuid().is_root() {
        bail!("as root, run: apt-get install -y {}", packages.join(" "));
    }
    apt_get(&["update", "-q"])?;
    apt_get(&[&["install", "-y", "-q", "--no-install-recommends"], packages.as_slice()].concat())?;
    // These packages start servers of their own; the tests start theirs. No systemd, no matter.
    for package in
        ["orthanc", "haproxy", "nginx"].into_iter().filter(|package| packages.contains(package))
    {
        let _ = Command::new("systemctl").args(["disable", "--now", package]).output();
    }
    Ok(())
}

fn apt_get(arguments: &[&str]) -> anyhow::Result<()> {
    let mut command = Command::new("apt-get");
    run("apt-get", command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive"))
}

/// The `buf` command: the one on the path, else one of our own, installed outside the workspace.
pub(crate) fn buf() -> anyhow::Result<PathBuf> {
    if let Some(buf) = find_program("buf") {
        return Ok(buf);
    }
    let modules = npm(BUF, "npm")?;
    Ok(modules.join(".bin/buf"))
}

/// The folder of playwright-core, installed outside the workspace.
pub(crate) fn playwright() -> anyhow::Result<PathBuf> {
    let modules = npm(PLAYWRIGHT, "playwright")?;
    Ok(modules.join("playwright-core"))
}

/// Installs a package, unless it is there, in a folder of its own: npm takes away what else it finds.
fn npm(package: &str, folder: &str) -> anyhow::Result<PathBuf> {
    let folder = cache()?.join(folder);
    let modules = folder.join("node_modules");
    if !is_installed(package, &modules) {
        say(format_args!("installing {package} in {}", folder.display()));
        std::fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        let mut npm = Command::new("npm");
        npm.args(["install", "--no-save", "--no-audit", "--no-fund", "--prefix"]).arg(&folder);
        run("npm", npm.arg(package))?;
    }
    Ok(modules)
}

/// A Python with what its clients need, in a folder of its own outside the workspace.
pub(crate) fn python() -> anyhow::Result<PathBuf> {
    let folder = cache()?.join("python");
    let (python, note) = (folder.join("bin/python"), folder.join("gantry-installed"));
    if std::fs::read_to_string(&note).is_ok_and(|installed| installed == PYTHON.join(" ")) {
        return Ok(python);
    }
    say(format_args!("installing {} in {}", PYTHON.join(" "), folder.display()));
    let mut make = Command::new("python3");
    // Debian has a python3 that cannot do this, unless python3-venv is installed.
    run("python3 -m venv", make.args(["-m", "venv", "--clear"]).arg(&folder))
        .context("as root, run: apt-get install -y python3-venv")?;
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
    run("pip", Command::new(&python).args(pip).args(PYTHON))?;
    std::fs::write(&note, PYTHON.join(" ")).context("noting what was installed")?;
    Ok(python)
}

/// The kernel for the tests of layer 4, in a folder of its own outside the workspace; nothing where the
/// machine's own kernel will do.
pub(crate) fn kernel(root: &Path) -> anyhow::Result<()> {
    run("kernel-vm --setup", Command::new(root.join(KERNEL_VM)).args(["--here", "--setup"]))
}

/// Whether the right version is there.
fn is_installed(package: &str, modules: &Path) -> bool {
    let Some((name, version)) = package.rsplit_once('@') else { return false };
    let manifest = modules.join(name).join("package.json");
    let Ok(text) = std::fs::read_to_string(manifest) else { return false };
    text.contains(&format!("\"version\": \"{version}\""))
}

/// A folder that git does not know and that the next run finds again.
fn cache() -> anyhow::Result<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let base = set("XDG_CACHE_HOME").map(PathBuf::from);
    let base = base.or_else(|| set("HOME").map(|home| PathBuf::from(home).join(".cache")));
    Ok(base.context("HOME is not set")?.join("gantry"))
}
