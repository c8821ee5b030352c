//! Compiles the protos without protoc, keeping comments in the descriptors that reflection serves.

use std::error::Error;
use std::path::{Path, PathBuf};

const FILES: &[&str] = &[
    "gantry/v1/authority.proto",
    "gantry/v1/balancer.proto",
    "gantry/v1/certificate.proto",
    "gantry/v1/config.proto",
    "gantry/v1/fleet.proto",
    "gantry/v1/health_check.proto",
    "gantry/v1/observe.proto",
    "gantry/v1/user.proto",
    "gantry/agent/v1/agent.proto",
];

/// Messages with secrets in them; `src/secret.rs` prints them.
const SECRETS: [&str; 3] = [
    ".gantry.agent.v1.EncodedServicePlan",
    ".gantry.agent.v1.KeyPair",
    ".gantry.v1.ImportCertificateRequest",
];

fn main() -> Result<(), Box<dyn Error>> {
    for file in FILES {
        println!("cargo::rerun-if-changed={file}");
    }
    let mut compiler = protox::Compiler::new(["."])?;
    compiler.include_imports(true).include_source_info(true).open_files(FILES)?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    write_if_changed(&out.join("descriptors.bin"), &compiler.encode_file_descriptor_set())?;
    tonic_prost_build::configure()
        .codec_path("crate::codec::WireCodec")
        .bytes(".gantry.agent.v1.EncodedServicePlan")
        .skip_debug(SECRETS)
        .compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}

fn write_if_changed(path: &Path, content: &[u8]) -> std::io::Result<()> {
    if std::fs::read(path).is_ok_and(|old| old == content) {
        return Ok(());
    }
    std::fs::write(path, content)
}
