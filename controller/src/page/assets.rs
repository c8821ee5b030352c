//! What a page is made of besides HTML, in the binary. An address names its content by hash, so a
//! browser may keep it for ever and never shows an old one.

use std::sync::LazyLock;

use axum::http::header;
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};

/// A file that is served.
#[derive(Debug)]
pub(super) struct Asset {
    path: &'static str,
    kind: &'static str,
    content: &'static str,
    mark: LazyLock<String>,
}

macro_rules! asset {
    ($path:literal, $kind:literal) => {
        Asset {
            path: concat!("/", $path),
            kind: $kind,
            content: include_str!(concat!("assets/", $path)),
            mark: LazyLock::new(|| mark(include_str!(concat!("assets/", $path)))),
        }
    };
}

pub(super) static STYLE: Asset = asset!("style.css", "text/css; charset=utf-8");
pub(super) static SCRIPT: Asset = asset!("page.js", "text/javascript; charset=utf-8");
pub(super) static ICON: Asset = asset!("icon.svg", "image/svg+xml");

impl Asset {
    pub(super) fn path(&self) -> &'static str {
        self.path
    }

    pub(super) fn url(&self) -> String {
        format!("{}?{}", self.path, *self.mark)
    }

    pub(super) fn answer(&self) -> Response {
        let headers = [
            (header::CONTENT_TYPE, self.kind),
            (header::CACHE_CONTROL, "public, max-age=31536000, immutable"),
        ];
        (headers, self.content).into_response()
    }
}

fn mark(content: &str) -> String {
    Sha256::digest(content).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}
