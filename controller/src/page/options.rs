//! The page's part of the controller's command line.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Where the page is served, and by which certificate.
#[derive(Clone, Debug, clap::Args)]
pub struct PageOptions {
    /// Where to serve the System Overview page over HTTPS; "off" serves none.
    #[arg(
        long = "page",
        env = "GANTRY_PAGE",
        default_value = "0.0.0.0:7444",
        value_name = "ADDRESS:PORT"
    )]
    pub address: Where,
    /// The page's certificate with its chain, PEM. Without it, one of the controller's own CA.
    #[arg(long, env = "GANTRY_PAGE_CERTIFICATE", value_name = "FILE", requires = "page_key")]
    page_certificate: Option<PathBuf>,
    /// The key of --page-certificate, PEM.
    #[arg(long, env = "GANTRY_PAGE_KEY", value_name = "FILE", requires = "page_certificate")]
    page_key: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Where {
    Off,
    At(SocketAddr),
}

impl PageOptions {
    /// Certificate and key, if they are given.
    pub(super) fn certificate(&self) -> Option<(&Path, &Path)> {
        Some((self.page_certificate.as_deref()?, self.page_key.as_deref()?))
    }
}

impl FromStr for Where {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "off" => Ok(Self::Off),
            text => text.parse().map(Self::At).map_err(|_| {
                "is neither ADDRESS:PORT, such as 0.0.0.0:7444, nor \"off\"".to_owned()
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_an_address_with_a_port_or_off() {
        assert_eq!("off".parse(), Ok(Where::Off));
        assert_eq!("[::]:7444".parse(), Ok(Where::At("[::]:7444".parse().unwrap())));
        for bad in ["", "7444", "localhost:7444", "OFF"] {
            assert!(bad.parse::<Where>().unwrap_err().contains("ADDRESS:PORT"), "{bad}");
        }
    }
}
