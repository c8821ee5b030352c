//! What a virtual service says of HTTP, and which pool a request or a connection belongs to.

use std::time::Duration;

use crate::name::Id;

/// Sends some of the traffic to a pool: the real servers that name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Empty: any.
    pub hosts: Vec<HostPattern>,
    /// How the path begins. Empty: any.
    pub path_prefixes: Vec<String>,
    /// Absent: the real servers that name none.
    pub pool: Option<Id>,
}

/// Host names, in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostPattern {
    Exact(String),
    /// One label before this, which begins with a dot.
    Wildcard(String),
}

/// How HTTP is treated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Http {
    pub request_headers: Vec<HeaderEdit>,
    pub response_headers: Vec<HeaderEdit>,
    pub redirect_to_https: bool,
    /// The answer when no real server is in service.
    pub maintenance: Option<Maintenance>,
    /// For the head of a request, since the connection was made or the last response ended.
    pub request_timeout: Duration,
    /// Of a request, in bytes.
    pub longest_head: u32,
    /// What clients say of theirs counts.
    pub trust_forwarded: bool,
    /// The cookie of persistence by cookie.
    pub cookie: String,
}

/// A change of one header field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeaderEdit {
    /// There is this value, and no other.
    Set {
        name: String,
        value: String,
    },
    /// One value more.
    Add {
        name: String,
        value: String,
    },
    Remove {
        name: String,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Maintenance {
    pub status: u16,
    pub content_type: String,
    pub body: String,
}

impl Http {
    pub const COOKIE: &str = "GANTRY";
    pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
    pub const LONGEST_HEAD: u32 = 64 << 10;
}

impl Default for Http {
    fn default() -> Self {
        Self {
            request_headers: Vec::new(),
            response_headers: Vec::new(),
            redirect_to_https: false,
            maintenance: None,
            request_timeout: Self::REQUEST_TIMEOUT,
            longest_head: Self::LONGEST_HEAD,
            trust_forwarded: false,
            cookie: Self::COOKIE.to_owned(),
        }
    }
}

impl HeaderEdit {
    pub fn name(&self) -> &str {
        match self {
            Self::Set { name, .. } | Self::Add { name, .. } | Self::Remove { name } => name,
        }
    }
}

impl HostPattern {
    fn fits(&self, host: &str) -> bool {
        match self {
            Self::Exact(name) => host.eq_ignore_ascii_case(name),
            Self::Wildcard(end) => {
                let at = host.find('.').unwrap_or(0);
                at > 0 && host[at..].eq_ignore_ascii_case(end)
            }
        }
    }
}

impl std::fmt::Display for HostPattern {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exact(name) => out.write_str(name),
            Self::Wildcard(end) => write!(out, "*{end}"),
        }
    }
}

/// The pool of who asks for `host`, a name without a port, and `path`: by the first route that fits.
pub fn pool<'a>(routes: &'a [Route], host: Option<&str>, path: &str) -> Option<&'a Id> {
    let host = host.map(|host| host.strip_suffix('.').unwrap_or(host));
    let fits = |route: &&Route| {
        let of_host = route.hosts.is_empty()
            || host.is_some_and(|host| route.hosts.iter().any(|pattern| pattern.fits(host)));
        let mut prefixes = route.path_prefixes.iter();
        of_host && (route.path_prefixes.is_empty() || prefixes.any(|start| path.starts_with(start)))
    };
    routes.iter().find(fits)?.pool.as_ref()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(hosts: &[&str], paths: &[&str], pool: &str) -> Route {
        let pattern = |host: &&str| match host.strip_prefix('*') {
            Some(end) => HostPattern::Wildcard(end.to_owned()),
            None => HostPattern::Exact((*host).to_owned()),
        };
        Route {
            hosts: hosts.iter().map(pattern).collect(),
            path_prefixes: paths.iter().map(|&path| path.to_owned()).collect(),
            pool: pool.parse().ok(),
        }
    }

    #[test]
    fn the_first_route_that_fits_says_which_pool() {
        let routes = [
            route(&["viewer.example.org"], &["/static/", "/img"], "files"),
            route(&["viewer.example.org", "*.viewer.example.org"], &[], "viewer"),
            route(&[], &["/dicom-web/"], "archive"),
            route(&["plain.example.org"], &[], ""),
            route(&["*.example.org"], &[], "rest"),
        ];
        for (host, path, expected) in [
            (Some("viewer.example.org"), "/static/a.js", Some("files")),
            (Some("viewer.example.org"), "/imgs", Some("files")),
            (Some("viewer.example.org"), "/Static/", Some("viewer")),
            (Some("VIEWER.example.ORG."), "/", Some("viewer")),
            (Some("a.viewer.example.org"), "/", Some("viewer")),
            (Some("b.a.viewer.example.org"), "/", None),
            (Some("b.a.viewer.example.org"), "/dicom-web/studies", Some("archive")),
            (None, "/dicom-web/", Some("archive")),
            (None, "/dicom-web", None),
            (Some("plain.example.org"), "/", None),
            (Some("other.example.org"), "/", Some("rest")),
            (Some(".example.org"), "/", None),
            (Some("example.org"), "/", None),
            (None, "/", None),
        ] {
            let found = pool(&routes, host, path).map(Id::as_str);
            assert_eq!(found, expected, "{host:?} {path}");
        }
    }
}
