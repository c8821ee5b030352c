//! Ports and sets of ports, written as in `"104"`, `"11112"` and `"8000-8010"`.

use std::fmt;
use std::num::NonZeroU16;
use std::str::FromStr;

/// A TCP or UDP port; never 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Port(NonZeroU16);

/// One port, or all from `first` to `last`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PortRange {
    first: Port,
    last: Port,
}

/// The ports of a listener, in the order they were written: at least one, and no port twice.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PortSet(Vec<PortRange>);

/// Why text is not a port, a range or a set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PortError {
    #[error("{0:?} is not a port: use a number from 1 to 65535")]
    NotAPort(String),
    #[error("{0} ends before it begins")]
    Backwards(String),
    #[error("give at least one port, such as \"104\" or \"8000-8010\"")]
    Empty,
    #[error("port {0} is given twice")]
    Twice(Port),
}

impl Port {
    pub fn new(number: u16) -> Option<Self> {
        NonZeroU16::new(number).map(Self)
    }

    pub fn get(self) -> u16 {
        self.0.get()
    }
}

impl PortRange {
    pub fn first(self) -> Port {
        self.first
    }

    pub fn last(self) -> Port {
        self.last
    }

    fn overlap(self, other: Self) -> Option<Port> {
        let from = self.first.max(other.first);
        (from <= self.last.min(other.last)).then_some(from)
    }
}

impl PortSet {
    pub fn new(ranges: Vec<PortRange>) -> Result<Self, PortError> {
        if ranges.is_empty() {
            return Err(PortError::Empty);
        }
        let mut sorted = ranges.clone();
        sorted.sort_by_key(|range| range.first());
        let twice = sorted.windows(2).find_map(|pair| pair[0].overlap(pair[1]));
        twice.map_or(Ok(Self(ranges)), |port| Err(PortError::Twice(port)))
    }

    /// The port written first: the one a health check uses when it has none of its own.
    pub fn first(&self) -> Port {
        self.0[0].first
    }

    pub fn ranges(&self) -> &[PortRange] {
        &self.0
    }

    pub fn is_single(&self) -> bool {
        self.count() == 1
    }

    pub fn count(&self) -> usize {
        self.0.iter().map(|range| usize::from(range.last.get() - range.first.get()) + 1).sum()
    }

    pub fn iter(&self) -> impl Iterator<Item = Port> + '_ {
        self.0.iter().flat_map(|range| (range.first.get()..=range.last.get()).filter_map(Port::new))
    }

    /// A port that both sets have.
    pub fn overlap(&self, other: &Self) -> Option<Port> {
        self.0.iter().find_map(|mine| other.0.iter().find_map(|theirs| mine.overlap(*theirs)))
    }
}

impl From<Port> for PortRange {
    fn from(port: Port) -> Self {
        Self { first: port, last: port }
    }
}

impl FromStr for Port {
    type Err = PortError;

    fn from_str(text: &str) -> Result<Self, PortError> {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        digits
            .then(|| text.parse().ok().and_then(Self::new))
            .flatten()
            .ok_or_else(|| PortError::NotAPort(text.chars().take(40).collect()))
    }
}

impl FromStr for PortRange {
    type Err = PortError;

    fn from_str(text: &str) -> Result<Self, PortError> {
        let Some((first, last)) = text.split_once('-') else {
            return Ok(Self::from(text.parse::<Port>()?));
        };
        let (first, last) = (first.parse()?, last.parse()?);
        if first > last {
            return Err(PortError::Backwards(text.to_owned()));
        }
        Ok(Self { first, last })
    }
}

impl fmt::Display for Port {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, out)
    }
}

impl fmt::Debug for Port {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, out)
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            return write!(out, "{}", self.first);
        }
        write!(out, "{}-{}", self.first, self.last)
    }
}

impl fmt::Display for PortSet {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, range) in self.0.iter().enumerate() {
            let comma = if at > 0 { "," } else { "" };
            write!(out, "{comma}{range}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(parts: &[&str]) -> Result<PortSet, PortError> {
        PortSet::new(parts.iter().map(|part| part.parse()).collect::<Result<_, _>>()?)
    }

    #[test]
    fn ports_are_numbers_from_1_to_65535() {
        for good in ["1", "104", "65535", "00104"] {
            assert!(good.parse::<Port>().is_ok(), "{good}");
        }
        for bad in ["", "0", "65536", "-1", "+1", "1.0", "http", " 1", "99999999999999"] {
            assert!(bad.parse::<Port>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_set_keeps_the_order_and_refuses_repeats() {
        let dicom = set(&["11112", "104"]).unwrap();
        assert_eq!(dicom.first().get(), 11112);
        assert_eq!(dicom.to_string(), "11112,104");
        assert_eq!(set(&["104", "100-110"]), Err(PortError::Twice(Port::new(104).unwrap())));
        let wide = set(&["200", "100-300", "1"]);
        assert_eq!(wide, Err(PortError::Twice(Port::new(200).unwrap())));
        assert_eq!(set(&[]), Err(PortError::Empty));
        assert_eq!(set(&["9-7"]), Err(PortError::Backwards("9-7".into())));
    }

    #[test]
    fn sets_overlap_where_they_share_a_port() {
        let (low, high) = (set(&["8000-8010"]).unwrap(), set(&["8010-8020", "443"]).unwrap());
        assert_eq!(low.overlap(&high), Port::new(8010));
        assert_eq!(low.overlap(&set(&["8011", "1-7999"]).unwrap()), None);
        assert_eq!(low.count(), 11);
        assert_eq!(low.iter().last(), Port::new(8010));
    }
}
