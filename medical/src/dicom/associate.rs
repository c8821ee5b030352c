//! A-ASSOCIATE-RQ: who wants to talk to whom, and of what (PS3.8, section 9.3.2).

/// A request for an association, as it stands in its protocol data unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// The application entity that is asked for, without the spaces around it.
    pub called: &'a str,
    /// The one that asks.
    pub calling: &'a str,
    items: &'a [u8],
}

/// One thing that is to be talked of: a presentation context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context<'a> {
    /// Odd.
    pub id: u8,
    /// A unique identifier (PS3.4): of a service, such as storage of one kind of images.
    pub abstract_syntax: &'a str,
}

/// Why a request cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error("it is no A-ASSOCIATE-RQ, or not all of one")]
    Unit,
    #[error("the called AE title is not 1 to 16 characters of ASCII")]
    Called,
    #[error("the calling AE title is not 1 to 16 characters of ASCII")]
    Calling,
    #[error("an item is longer than what is left of the request")]
    Item,
    #[error("a presentation context has no abstract syntax that is text")]
    Context,
}

/// Protocol version, and a reserved field.
const BEFORE_TITLES: usize = 4;
const TITLE: usize = 16;
const RESERVED: usize = 32;
const PRESENTATION_CONTEXT: u8 = 0x20;
const ABSTRACT_SYNTAX: u8 = 0x30;

impl<'a> Request<'a> {
    /// Reads a whole protocol data unit, header included. All items are gone through.
    pub fn read(unit: &'a [u8]) -> Result<Self, Malformed> {
        let (header, body) = unit.split_first_chunk::<6>().ok_or(Malformed::Unit)?;
        let [1, _, length @ ..] = *header else { return Err(Malformed::Unit) };
        if usize::try_from(u32::from_be_bytes(length)) != Ok(body.len()) {
            return Err(Malformed::Unit);
        }
        let mut rest = body;
        cut(&mut rest, BEFORE_TITLES).ok_or(Malformed::Unit)?;
        let called = cut(&mut rest, TITLE).ok_or(Malformed::Unit)?;
        let calling = cut(&mut rest, TITLE).ok_or(Malformed::Unit)?;
        cut(&mut rest, RESERVED).ok_or(Malformed::Unit)?;
        let request = Self {
            called: title(called).ok_or(Malformed::Called)?,
            calling: title(calling).ok_or(Malformed::Calling)?,
            items: rest,
        };
        request.contexts().try_for_each(|context| context.map(drop))?;
        Ok(request)
    }

    /// What is to be talked of.
    pub fn contexts(&self) -> impl Iterator<Item = Result<Context<'a>, Malformed>> {
        items(self.items).filter_map(|item| match item {
            Ok((PRESENTATION_CONTEXT, body)) => Some(context(body)),
            Ok(_) => None,
            Err(why) => Some(Err(why)),
        })
    }
}

fn context(body: &[u8]) -> Result<Context<'_>, Malformed> {
    let (&[id, _, _, _], subitems) = body.split_first_chunk().ok_or(Malformed::Context)?;
    for item in items(subitems) {
        let (kind, value) = item?;
        if kind == ABSTRACT_SYNTAX {
            let text = str::from_utf8(value).map_err(|_| Malformed::Context)?;
            return Ok(Context { id, abstract_syntax: text.trim_end_matches(['\0', ' ']) });
        }
    }
    Err(Malformed::Context)
}

/// The items of a request, or of one of its items: type, a reserved byte, length in two bytes. What is left
/// behind one that is too long is given up.
fn items(bytes: &[u8]) -> impl Iterator<Item = Result<(u8, &[u8]), Malformed>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let item = item(&mut rest);
        if item.is_none() {
            rest = &[];
        }
        Some(item.ok_or(Malformed::Item))
    })
}

fn item<'a>(rest: &mut &'a [u8]) -> Option<(u8, &'a [u8])> {
    let &[kind, _, high, low] = cut(rest, 4)?.first_chunk()?;
    Some((kind, cut(rest, u16::from_be_bytes([high, low]).into())?))
}

fn cut<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (piece, left) = rest.split_at_checked(length)?;
    *rest = left;
    Some(piece)
}

/// An AE title (PS3.5, table 6.2-1): spaces around it mean nothing, and it is not only spaces.
fn title(field: &[u8]) -> Option<&str> {
    let text = str::from_utf8(field).ok()?.trim_matches([' ', '\0']);
    let fits = |byte: u8| byte.is_ascii_graphic() && byte != b'\\' || byte == b' ';
    (!text.is_empty() && text.bytes().all(fits)).then_some(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const VERIFICATION: &str = "1.2.840.10008.1.1";
    const CT: &str = "1.2.840.10008.5.1.4.1.1.2";

    fn sized(kind: u8, body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(body.len()).unwrap().to_be_bytes();
        [&[kind, 0, length[0], length[1]], body].concat()
    }

    fn of_context(id: u8, syntax: &str) -> Vec<u8> {
        let transfer = sized(0x40, b"1.2.840.10008.1.2");
        let body = [&[id, 0, 0, 0], &sized(ABSTRACT_SYNTAX, syntax.as_bytes())[..], &transfer];
        sized(PRESENTATION_CONTEXT, &body.concat())
    }

    /// As nodes send it: application context, contexts, user information with the maximum length.
    fn request(called: &str, calling: &str, contexts: &[Vec<u8>]) -> Vec<u8> {
        let titles = format!("{called:<16}{calling:<16}");
        let application = sized(0x10, b"1.2.840.10008.3.1.1.1");
        let user = sized(0x50, &sized(0x51, &16384_u32.to_be_bytes()));
        let body = [
            &[0, 1, 0, 0],
            titles.as_bytes(),
            &[0; RESERVED],
            &application,
            &contexts.concat(),
            &user,
        ]
        .concat();
        let length = u32::try_from(body.len()).unwrap().to_be_bytes();
        [&[1, 0], &length[..], &body].concat()
    }

    #[test]
    fn a_request_says_who_wants_to_talk_to_whom_and_of_what() {
        let unit = request("PACS", " CT ROOM 3", &[of_context(1, VERIFICATION), of_context(3, CT)]);
        let request = Request::read(&unit).unwrap();
        assert_eq!((request.called, request.calling), ("PACS", "CT ROOM 3"));
        let contexts: Vec<_> = request.contexts().map(Result::unwrap).collect();
        let context = |id, abstract_syntax| Context { id, abstract_syntax };
        assert_eq!(contexts, [context(1, VERIFICATION), context(3, CT)]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let good = |contexts: &[Vec<u8>]| request("PACS", "CT", contexts);
        let mut shorter = good(&[]);
        shorter.pop();
        let mut longer = good(&[]);
        longer.push(0);
        let mut other = good(&[]);
        other[0] = 2;
        let overlong = vec![PRESENTATION_CONTEXT, 0, 255, 255, 1];
        for (unit, why) in [
            (shorter, Malformed::Unit),
            (longer, Malformed::Unit),
            (other, Malformed::Unit),
            (vec![1, 0, 0, 0, 0, 0], Malformed::Unit),
            (request("", "CT", &[]), Malformed::Called),
            (request("PA\\CS", "CT", &[]), Malformed::Called),
            (request("PACS", "", &[]), Malformed::Calling),
            (request("PACS", "C\u{7}", &[]), Malformed::Calling),
            (good(&[overlong]), Malformed::Item),
            (good(&[sized(PRESENTATION_CONTEXT, &[1, 0])]), Malformed::Context),
            (good(&[sized(PRESENTATION_CONTEXT, &[1, 0, 0, 0])]), Malformed::Context),
        ] {
            assert_eq!(Request::read(&unit), Err(why));
        }
    }

    proptest! {
        #[test]
        fn anything_may_come(bytes: Vec<u8>, at in 0_usize..300, byte: u8) {
            let _ = Request::read(&bytes);
            let mut damaged = request("PACS", "CT", &[of_context(1, CT)]);
            let length = damaged.len();
            damaged[at % length] = byte;
            let _ = Request::read(&damaged).map(|request| request.contexts().count());
        }
    }
}
