//! The text of a filter: `FIELD OPERATOR VALUE AND FIELD OPERATOR VALUE ...` (a part of AIP-160).
//!
//! Gives the conditions as they are written, and knows neither fields nor types. One walk from left
//! to right without recursion: a filter costs what it is long, and it may not be long.

use std::fmt;
use std::iter::Peekable;
use std::str::CharIndices;

/// The longest filter, in bytes.
pub(super) const LONGEST: usize = 2048;

/// How many conditions a filter may have.
pub(super) const MOST_CONDITIONS: usize = 32;

/// How a field is compared with a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    Equal,
    NotEqual,
    Contains,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// One condition as it is written.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Condition<'a> {
    pub(super) field: Word<'a>,
    pub(super) operator: Operator,
    pub(super) operator_at: usize,
    pub(super) value: String,
    pub(super) value_at: usize,
}

/// A part of the text, and the byte where it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Word<'a> {
    pub(super) text: &'a str,
    pub(super) at: usize,
}

/// What is wrong with a filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// The byte where it is wrong; none: as a whole.
    pub(super) at: Option<usize>,
    /// Stable, for programs.
    pub(super) reason: &'static str,
    pub(super) what: String,
}

impl Fault {
    pub(super) fn new(at: usize, reason: &'static str, what: impl Into<String>) -> Self {
        Self { at: Some(at), reason, what: what.into() }
    }
}

/// Reads all conditions; none when there is nothing but space.
pub(super) fn conditions(text: &str) -> Result<Vec<Condition<'_>>, Fault> {
    if text.len() > LONGEST {
        let what = format!("has {} bytes: at most {LONGEST} are read", text.len());
        return Err(Fault { at: None, reason: "TOO_LONG", what });
    }
    let mut reader = Reader { text, chars: text.char_indices().peekable() };
    let mut conditions = Vec::new();
    reader.skip_space();
    while reader.chars.peek().is_some() {
        if !conditions.is_empty() {
            reader.and()?;
        }
        if conditions.len() == MOST_CONDITIONS {
            let what = format!("more than {MOST_CONDITIONS} conditions");
            return Err(Fault::new(reader.at(), "TOO_LONG", what));
        }
        conditions.push(reader.condition()?);
        reader.skip_space();
    }
    Ok(conditions)
}

/// Walks over the text.
struct Reader<'a> {
    text: &'a str,
    chars: Peekable<CharIndices<'a>>,
}

impl<'a> Reader<'a> {
    /// Where the walk is.
    fn at(&mut self) -> usize {
        self.chars.peek().map_or(self.text.len(), |(at, _)| *at)
    }

    fn peek(&mut self) -> Option<char> {
        self.chars.peek().map(|(_, c)| *c)
    }

    fn skip_space(&mut self) {
        while self.chars.next_if(|(_, c)| c.is_whitespace()).is_some() {}
    }

    /// The longest piece from here whose characters are all good.
    fn take_while(&mut self, good: impl Fn(char) -> bool) -> Word<'a> {
        let at = self.at();
        while self.chars.next_if(|(_, c)| good(*c)).is_some() {}
        let end = self.at();
        Word { text: &self.text[at..end], at }
    }

    fn condition(&mut self) -> Result<Condition<'a>, Fault> {
        let field = self.field()?;
        self.skip_space();
        let operator_at = self.at();
        let operator = self.operator(field)?;
        self.skip_space();
        let value_at = self.at();
        let value = if self.peek() == Some('"') { self.quoted()? } else { self.bare()? };
        Ok(Condition { field, operator, operator_at, value, value_at })
    }

    fn and(&mut self) -> Result<(), Fault> {
        let word = self.take_while(is_of_field);
        match word.text {
            "AND" => {}
            "OR" => return Err(only_and(word.at, "OR")),
            "and" | "And" => {
                return Err(Fault::new(word.at, "INVALID_FILTER", "AND is written in capitals"));
            }
            "" if matches!(self.peek(), Some('(' | ')')) => {
                return Err(only_and(word.at, "parentheses"));
            }
            _ => {
                let what = "expected AND: put a value with spaces in double quotes";
                return Err(Fault::new(word.at, "INVALID_FILTER", what));
            }
        }
        self.skip_space();
        Ok(())
    }

    fn field(&mut self) -> Result<Word<'a>, Fault> {
        let word = self.take_while(is_of_field);
        match (word.text, self.peek()) {
            ("NOT", _) | ("", Some('-' | '!')) => Err(only_and(word.at, "NOT")),
            ("OR", _) => Err(only_and(word.at, "OR")),
            ("", Some('(' | ')')) => Err(only_and(word.at, "parentheses")),
            ("", Some('*')) => Err(only_and(word.at, "wildcards")),
            ("" | "AND", _) => {
                let what = "expected a field: a condition is FIELD OPERATOR VALUE";
                Err(Fault::new(word.at, "INVALID_FILTER", what))
            }
            _ => Ok(word),
        }
    }

    fn operator(&mut self, field: Word<'_>) -> Result<Operator, Fault> {
        let word = self.take_while(|c| "=!:<>~".contains(c));
        Ok(match word.text {
            "=" => Operator::Equal,
            "!=" => Operator::NotEqual,
            ":" => Operator::Contains,
            "<" => Operator::Less,
            "<=" => Operator::LessOrEqual,
            ">" => Operator::Greater,
            ">=" => Operator::GreaterOrEqual,
            found => {
                let field = shown(field.text);
                let what = match found {
                    "" => format!("expected an operator after {field}"),
                    found => format!("{found} is no operator"),
                };
                let what = format!("{what}: there are = != : < > <= >=");
                return Err(Fault::new(word.at, "INVALID_FILTER", what));
            }
        })
    }

    fn bare(&mut self) -> Result<String, Fault> {
        let word = self.take_while(is_of_bare_value);
        match (word.text, self.peek()) {
            (_, Some('(' | ')')) => Err(only_and(self.at(), "parentheses")),
            (_, Some('*')) => Err(only_and(self.at(), "wildcards")),
            ("" | "AND" | "OR" | "NOT", _) => {
                let what = "expected a value: \"\" is the empty one";
                Err(Fault::new(word.at, "INVALID_FILTER", what))
            }
            (_, Some(c)) if !c.is_whitespace() => {
                let what = format!("put a value with {c} in double quotes");
                Err(Fault::new(self.at(), "INVALID_FILTER", what))
            }
            (text, _) => Ok(text.to_owned()),
        }
    }

    /// A value in double quotes, where `\"` is a quote and `\\` a backslash.
    fn quoted(&mut self) -> Result<String, Fault> {
        let begin = self.at();
        self.chars.next();
        let mut value = String::new();
        while let Some((at, c)) = self.chars.next() {
            match c {
                '"' => return Ok(value),
                '\\' => match self.chars.next() {
                    Some((_, escaped @ ('"' | '\\'))) => value.push(escaped),
                    _ => {
                        let what = "a backslash stands before \" or \\ only";
                        return Err(Fault::new(at, "INVALID_FILTER", what));
                    }
                },
                c => value.push(c),
            }
        }
        Err(Fault::new(begin, "INVALID_FILTER", "the quote that begins here does not end"))
    }
}

impl fmt::Display for Operator {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Equal => "=",
            Self::NotEqual => "!=",
            Self::Contains => ":",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
        })
    }
}

/// Text of a client, short enough for a message.
pub(super) fn shown(text: &str) -> String {
    format!("{:?}", text.chars().take(60).collect::<String>())
}

fn only_and(at: usize, what: &str) -> Fault {
    let way_out = match what {
        "wildcards" => "use : for contains, or put the value in double quotes",
        "NOT" => "use != for a single condition",
        _ => "conditions are joined by AND, which is all that is supported",
    };
    Fault::new(at, "UNSUPPORTED", format!("{what} is not supported: {way_out}"))
}

fn is_of_field(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '.'
}

fn is_of_bare_value(c: char) -> bool {
    !c.is_whitespace() && !"\"()*=<>!\\".contains(c)
}
