//! Small real servers of the kinds that Gantry balances, for trying it out and for tests: a DICOM
//! archive, an HL7 receiver, a web viewer and an XDS registry, each in its own process.
//!
//! They are honest about what they do: an object is in its folder before it is acknowledged. They
//! are not products: no database, no queries, no access control, and nothing about patients in what
//! they print.

mod dicom;
mod images;
mod listen;
mod mllp;
mod part10;
mod web;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Subcommand;

use crate::say;
pub(crate) use images::make_dicom;

/// One sample server, or something for it.
#[derive(Debug, Subcommand)]
pub(crate) enum Sample {
    /// A DICOM archive: answers C-ECHO and keeps what C-STORE brings.
    Dicom {
        /// May be given more than once.
        #[arg(long, required = true)]
        listen: Vec<SocketAddr>,
        /// The application entity title in what it prints; it accepts any called title.
        #[arg(long)]
        ae: String,
        /// Where objects are kept, one file each.
        #[arg(long)]
        dir: PathBuf,
    },
    /// An HL7 version 2 receiver over MLLP: acknowledges every message.
    Mllp {
        #[arg(long)]
        listen: SocketAddr,
        #[arg(long, default_value = "MLLP")]
        name: String,
    },
    /// A viewer's page over HTTPS, with a certificate made at start.
    Https {
        #[arg(long)]
        listen: SocketAddr,
        #[arg(long)]
        name: String,
    },
    /// An XDS registry over HTTP: a description at ?wsdl, and every query finds nothing.
    Xds {
        #[arg(long)]
        listen: SocketAddr,
        #[arg(long, default_value = "XDS")]
        name: String,
    },
    /// Sends one HL7 message over MLLP and prints how it was acknowledged.
    Hl7 {
        /// The receiver, or a virtual service in front of it.
        #[arg(long)]
        to: SocketAddr,
    },
    /// Makes DICOM Secondary Capture images with synthetic pixels.
    Images {
        #[arg(long)]
        dir: PathBuf,
        #[arg(long, default_value_t = 20)]
        count: u32,
        /// The size of the pixels of each.
        #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=32_767))]
        kib: u16,
    },
}

impl Sample {
    /// Runs until the process is ended; [`Sample::Images`] and [`Sample::Hl7`] end by
    /// themselves.
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Dicom { listen, ae, dir } => dicom::run(listen, ae, dir).await,
            Self::Mllp { listen, name } => mllp::run(listen, name).await,
            Self::Https { listen, name } => web::run_viewer(listen, name).await,
            Self::Xds { listen, name } => web::run_registry(listen, name).await,
            Self::Hl7 { to } => {
                say(mllp::send(to).await?);
                Ok(())
            }
            Self::Images { dir, count, kib } => {
                let made = make_dicom(&dir, count, kib)?;
                say(format_args!("{} images in {}", made.len(), dir.display()));
                Ok(())
            }
        }
    }
}
