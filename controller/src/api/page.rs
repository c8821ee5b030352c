//! Paging (AIP-158): a token is the name after which the next page begins.
//!
//! It carries a digest of what was asked, since it makes no sense with another parent or filter.

use std::fmt::Display;
use std::str::FromStr;

use sha2::{Digest, Sha256};

use super::error::ApiError;

const DEFAULT: usize = 100;
const MOST: usize = 1000;

/// What a client asked for.
#[derive(Debug)]
pub(super) struct Page {
    size: usize,
    after: Option<String>,
    digest: String,
}

impl Page {
    /// Reads which page is wanted. `asked` is what the token belongs to: the list and all that
    /// chooses its items.
    pub(super) fn parse(size: i32, token: &str, asked: &[&str]) -> Result<Self, ApiError> {
        let size = match usize::try_from(size) {
            Ok(0) => DEFAULT,
            Ok(size) => size.min(MOST),
            Err(_) => {
                let what = format!("{size} is negative: use 1 to {MOST}, or 0 for {DEFAULT}");
                return Err(ApiError::field("page_size", "OUT_OF_RANGE", what));
            }
        };
        let digest = digest(asked);
        let after = match token.split_once(':') {
            Some((given, name)) if given == digest => Some(name.to_owned()),
            Some((given, _)) if is_digest(given) => {
                let what = "belongs to a list with another parent or filter: repeat those of the \
                            first page, or begin again without a token";
                return Err(ApiError::field("page_token", "OTHER_LIST", what));
            }
            None if token.is_empty() => None,
            _ => return Err(invalid_token()),
        };
        Ok(Self { size, after, digest })
    }

    /// The name after which this page begins.
    pub(super) fn after<K: FromStr>(&self) -> Result<Option<K>, ApiError> {
        let after = self.after.as_deref();
        after.map(|name| name.parse().map_err(|_| invalid_token())).transpose()
    }

    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// Cuts this page out of `items`, which are ordered by `key`; gives the next page's token.
    pub(super) fn cut<T, K>(
        &self,
        items: impl Iterator<Item = T>,
        key: impl Fn(&T) -> K,
        wanted: impl Fn(&T) -> bool,
    ) -> Result<(Vec<T>, String), ApiError>
    where
        K: Ord + FromStr + Display,
    {
        let after = self.after()?;
        let rest = items.skip_while(|item| after.as_ref().is_some_and(|after| key(item) <= *after));
        let mut rest = rest.filter(wanted);
        let page: Vec<T> = rest.by_ref().take(self.size).collect();
        let token = match (rest.next(), page.last()) {
            (Some(_), Some(last)) => self.token(&key(last)),
            _ => String::new(),
        };
        Ok((page, token))
    }

    /// The token of the page after the item `name` of the same list.
    pub(super) fn token(&self, name: &impl Display) -> String {
        format!("{}:{name}", self.digest)
    }
}

fn invalid_token() -> ApiError {
    let what = "is not a token that this list gave: begin again without one";
    ApiError::field("page_token", "INVALID_TOKEN", what)
}

/// Eight bytes tell lists apart that a client confuses; nothing is protected by them.
fn digest(asked: &[&str]) -> String {
    let mut hasher = Sha256::new();
    for part in asked {
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part);
    }
    hasher.finalize()[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

fn is_digest(text: &str) -> bool {
    text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use gantry_model::name::ClusterName;

    use super::*;

    fn walk(size: i32, wanted: impl Fn(&u32) -> bool) -> Vec<Vec<u32>> {
        let (mut pages, mut next) = (Vec::new(), String::new());
        loop {
            let page = Page::parse(size, &next, &["numbers"]).unwrap();
            let (items, token) = page.cut(8..13, |number| *number, &wanted).unwrap();
            pages.push(items);
            if token.is_empty() {
                return pages;
            }
            next = token;
        }
    }

    #[test]
    fn pages_cover_everything_once() {
        assert_eq!(walk(2, |_| true), [vec![8, 9], vec![10, 11], vec![12]]);
        assert_eq!(walk(5, |_| true), [vec![8, 9, 10, 11, 12]]);
        assert_eq!(walk(0, |_| true), walk(5, |_| true));
        assert!(Page::parse(-1, "", &[]).is_err());
    }

    #[test]
    fn a_page_is_filled_with_what_is_wanted() {
        assert_eq!(walk(2, |number| number % 2 == 0), [vec![8, 10], vec![12]]);
        assert_eq!(walk(2, |_| false), [[0; 0]]);
    }

    /// As text, `clusters/a-b` sorts before `clusters/a/`.
    #[test]
    fn pages_follow_the_order_of_names_and_not_of_their_text() {
        let names = ["clusters/a/virtualServices/x", "clusters/a-b/virtualServices/y"];
        let names: Vec<gantry_model::name::ServiceName> =
            names.iter().map(|name| name.parse().unwrap()).collect();
        assert!(names[0] < names[1]);
        let first = Page::parse(1, "", &[]).unwrap();
        let (_, token) = first.cut(names.iter(), |name| (*name).clone(), |_| true).unwrap();
        let second = Page::parse(1, &token, &[]).unwrap();
        let (page, token) = second.cut(names.iter(), |name| (*name).clone(), |_| true).unwrap();
        assert_eq!((page, token.as_str()), (vec![&names[1]], ""));
    }

    #[test]
    fn a_token_belongs_to_its_list() {
        let page = Page::parse(1, "", &["services", "clusters/a", ""]).unwrap();
        let token = page.token(&"clusters/a");
        let reason = |asked: &[&str], token: &str| match Page::parse(1, token, asked).unwrap_err() {
            ApiError::Invalid(violations) => violations[0].reason,
            other => panic!("{other:?}"),
        };
        assert_eq!(reason(&["services", "clusters/a", "x = 1"], &token), "OTHER_LIST");
        assert_eq!(reason(&["services", "", "clusters/a"], &token), "OTHER_LIST");
        for token in ["12", ":", "after:clusters/a", "\0"] {
            assert_eq!(reason(&["services", "clusters/a", ""], token), "INVALID_TOKEN", "{token}");
        }
        let forged = page.token(&"../etc");
        let page = Page::parse(1, &forged, &["services", "clusters/a", ""]).unwrap();
        assert!(page.after::<ClusterName>().is_err());
    }
}
