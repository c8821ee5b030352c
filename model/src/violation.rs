//! What is wrong with a request, field by field: all of it at once.

use std::fmt;

/// One thing wrong with one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Path of the field in the request: `virtual_service.listener.ports[1]`.
    pub field: String,
    /// Stable, for programs: `INVALID_PORT`.
    pub reason: &'static str,
    /// What is wrong and what would be right, for people.
    pub message: String,
}

/// Collects violations while a message is walked; knows where in it the walk is.
#[derive(Debug, Default)]
pub struct Violations {
    path: Vec<String>,
    found: Vec<Violation>,
}

impl Violations {
    pub fn new() -> Self {
        Self::default()
    }

    /// Walks into `field` for the duration of `walk`.
    pub fn within<T>(&mut self, field: impl fmt::Display, walk: impl FnOnce(&mut Self) -> T) -> T {
        self.path.push(field.to_string());
        let result = walk(self);
        self.path.pop();
        result
    }

    /// Records that `field`, below where the walk is, is wrong. An empty `field` means the message
    /// the walk is in.
    pub fn add(&mut self, field: &str, reason: &'static str, message: impl fmt::Display) {
        let mut path = self.path.join(".");
        if !path.is_empty() && !field.is_empty() {
            path.push('.');
        }
        path.push_str(field);
        self.found.push(Violation { field: path, reason, message: message.to_string() });
    }

    /// Takes the value out of `result`, or records its error under `field`.
    pub fn check<T, E: fmt::Display>(
        &mut self,
        field: &str,
        reason: &'static str,
        result: Result<T, E>,
    ) -> Option<T> {
        result.map_err(|error| self.add(field, reason, error)).ok()
    }

    /// All that was found wrong.
    pub fn into_found(self) -> Vec<Violation> {
        self.found
    }

    /// Records what was found elsewhere, by its whole path.
    pub fn extend(&mut self, found: impl IntoIterator<Item = Violation>) {
        self.found.extend(found);
    }

    /// The value, if nothing was found wrong with it. A missing value must have been recorded.
    pub fn finish<T>(self, value: Option<T>) -> Result<T, Vec<Violation>> {
        match value {
            Some(value) if self.found.is_empty() => Ok(value),
            _ => Err(self.found),
        }
    }
}

impl Violation {
    /// Whether this is the same fault in the same place, whatever values it names.
    pub fn is_like(&self, other: &Self) -> bool {
        self.field == other.field && self.reason == other.reason
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.field, self.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_violation_knows_its_path() {
        let mut violations = Violations::new();
        violations.within("virtual_service", |violations| {
            violations.within("listener", |violations| {
                violations.add("ports[1]", "INVALID_PORT", "no");
            });
            violations.add("", "EMPTY", "no");
        });
        let fields: Vec<_> =
            violations.finish::<()>(None).unwrap_err().into_iter().map(|v| v.field).collect();
        assert_eq!(fields, ["virtual_service.listener.ports[1]", "virtual_service"]);
    }
}
