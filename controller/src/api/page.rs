//! Paging (AIP-158): a token is the name after which the next page begins.

use super::error::ApiError;

const DEFAULT: usize = 100;
const MOST: usize = 1000;

/// What a client asked for.
#[derive(Debug)]
pub(super) struct Page {
    size: usize,
    after: Option<String>,
}

impl Page {
    pub(super) fn parse(size: i32, token: &str) -> Result<Self, ApiError> {
        let size = match usize::try_from(size) {
            Ok(0) => DEFAULT,
            Ok(size) => size.min(MOST),
            Err(_) => {
                let what = format!("{size} is negative: use 1 to {MOST}, or 0 for {DEFAULT}");
                return Err(ApiError::field("page_size", "OUT_OF_RANGE", what));
            }
        };
        let after = match token.strip_prefix("after:") {
            Some(name) => Some(name.to_owned()),
            None if token.is_empty() => None,
            None => {
                let what = "is not a token that this list gave: begin again without one";
                return Err(ApiError::field("page_token", "INVALID_TOKEN", what));
            }
        };
        Ok(Self { size, after })
    }

    /// The name after which this page begins.
    pub(super) fn after(&self) -> Option<&str> {
        self.after.as_deref()
    }

    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// Cuts this page out of `items`, which are ordered by `name`; gives the next page's token.
    pub(super) fn cut<T>(
        &self,
        items: impl Iterator<Item = T>,
        name: impl Fn(&T) -> String,
    ) -> (Vec<T>, String) {
        let after = self.after.as_deref().unwrap_or_default();
        let mut rest = items.skip_while(|item| !after.is_empty() && *name(item) <= *after);
        let page: Vec<T> = rest.by_ref().take(self.size).collect();
        let token = match (rest.next(), page.last()) {
            (Some(_), Some(last)) => token(&name(last)),
            _ => String::new(),
        };
        (page, token)
    }
}

/// The token of the page after `name`.
pub(super) fn token(name: &str) -> String {
    format!("after:{name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(size: i32) -> Vec<Vec<u32>> {
        let (mut pages, mut next) = (Vec::new(), String::new());
        loop {
            let page = Page::parse(size, &next).unwrap();
            let (items, token) = page.cut(10..15, |number| number.to_string());
            pages.push(items);
            if token.is_empty() {
                return pages;
            }
            next = token;
        }
    }

    #[test]
    fn pages_cover_everything_once() {
        assert_eq!(walk(2), [vec![10, 11], vec![12, 13], vec![14]]);
        assert_eq!(walk(5), [vec![10, 11, 12, 13, 14]]);
        assert_eq!(walk(0), walk(5));
        assert!(Page::parse(-1, "").is_err());
        assert!(Page::parse(1, "12").is_err());
    }
}
