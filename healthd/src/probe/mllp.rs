//! A message of HL7 v2 over MLLP, and what its acknowledgement says (MSA-1).
//!
//! The message is the operator's, with the time and an id of its own put in, so that an engine takes no check
//! for the repetition of another. Without one it is a query for the receiver's clock, which has no patient in it;
//! then any acknowledgement will do, a refusal too, since somebody read it.

use gantry_medical::hl7::{Acknowledgement, Header, Malformed};
use gantry_medical::mllp::{Decoder, Frame};
use gantry_model::check::Mllp;
use gantry_runtime::clock;
use jiff::Timestamp;
use tokio::io::AsyncReadExt;

use super::failure::{Failure, Outcome};
use super::link::Link;

/// The longest acknowledgement that is read.
const LIMIT: usize = 1 << 20;
/// Codes that are good where nothing is said.
const GOOD: [&str; 2] = ["AA", "CA"];
/// NMQ^N01, the application management query (HL7 v2.4, section 14.3.1).
const QUERY: &str = "MSH|^~\\&|GANTRY|HEALTHD|||{time}||NMQ^N01|{id}|P|2.4\rNCK|{time}\r";

/// Whether the message could be acknowledged: by its control id.
pub(super) fn supported(mllp: &Mllp) -> Result<(), Malformed> {
    Header::read(message(mllp, Timestamp::UNIX_EPOCH).as_bytes()).map(drop)
}

pub(super) async fn ask(mllp: &Mllp, link: &mut Link) -> Outcome {
    link.open(mllp.tls).await?;
    link.begin("sending the message");
    let message = message(mllp, clock::wall());
    let own = Header::read(message.as_bytes()).map_err(|error| Failure::Own(error.to_string()))?;
    let frame = Frame::new(message.as_bytes());
    let frame = frame.ok_or_else(|| Failure::Own("a message ends before its end".to_owned()))?;
    link.send(frame.as_bytes()).await?;
    link.begin("waiting for the acknowledgement");
    let mut decoder = Decoder::new(LIMIT);
    let mut buffer = [0; 4096];
    loop {
        let read = link.stream().read(&mut buffer).await;
        let mut bytes = match read.map_err(|error| Failure::talking(&error))? {
            0 => return Err(without_answer(&decoder).into()),
            read => &buffer[..read],
        };
        while let Some(answer) = decoder.read(&mut bytes).map_err(|error| error.to_string())? {
            if let Some(outcome) = judge(mllp, &own, answer.message()) {
                return outcome;
            }
        }
    }
}

/// What the answer says of the message; none if it is of another one.
fn judge(mllp: &Mllp, own: &Header<'_>, answer: &[u8]) -> Option<Outcome> {
    let acknowledgement = match Acknowledgement::read(answer) {
        Ok(acknowledgement) => acknowledgement,
        Err(error) => {
            return Some(Err(format!("the answer is no acknowledgement: {error}").into()));
        }
    };
    if !acknowledgement.answers(own) {
        return None;
    }
    let code = acknowledgement.code.as_str();
    let expected = mllp.expect_codes.iter().map(String::as_str);
    let is_good = match (mllp.expect_codes.is_empty(), mllp.message.is_empty()) {
        (true, true) => true,
        (true, false) => GOOD.contains(&code),
        (false, _) => expected.clone().any(|good| good == code),
    };
    let told = format!("acknowledged with {code}");
    Some(if is_good { Ok(told) } else { Err(told.into()) })
}

fn without_answer(decoder: &Decoder) -> &'static str {
    match (decoder.is_between_frames(), decoder.skipped()) {
        (false, _) => "connection closed in the middle of an acknowledgement",
        (true, 0) => "connection closed without an acknowledgement",
        (true, _) => "connection closed without the acknowledgement of this message",
    }
}

/// The message as it is sent: segments end with CR, however they were written.
fn message(mllp: &Mllp, now: Timestamp) -> String {
    let template = if mllp.message.is_empty() { QUERY } else { &mllp.message };
    let time = now.strftime("%Y%m%d%H%M%S").to_string();
    // Not longer than 20 characters, which older engines allow for.
    let id = format!("G{:x}", now.as_nanosecond());
    let whole = template.replace("{time}", &time).replace("{id}", &id);
    let segments = whole.split(['\r', '\n']).filter(|segment| !segment.is_empty());
    segments.flat_map(|segment| [segment, "\r"]).collect()
}

#[cfg(test)]
mod tests {
    use gantry_model::check::Probe;
    use gantry_model::verdict::Layer;
    use tokio::io::AsyncWriteExt;

    use super::super::testing::*;
    use super::*;

    fn of(message: &str, codes: &[&str]) -> Mllp {
        let expect_codes = codes.iter().map(|&code| code.to_owned()).collect();
        Mllp { message: message.to_owned(), expect_codes, tls: false }
    }

    #[test]
    fn a_message_gets_its_time_and_its_id_and_the_ends_of_its_segments() {
        let now: Timestamp = "2026-11-27T06:30:00Z".parse().unwrap();
        let own = "MSH|^~\\&|A|B|C|D|{time}||ADT^A08|X{id}|P|2.3\nPID|1||TEST\r\n\nPV1|1";
        let sent = message(&of(own, &[]), now);
        let id = format!("{:x}", now.as_nanosecond());
        let expected =
            format!("MSH|^~\\&|A|B|C|D|20261127063000||ADT^A08|XG{id}|P|2.3\rPID|1||TEST\rPV1|1\r");
        assert_eq!(sent, expected);
        let query = message(&of("", &[]), now);
        let header = Header::read(query.as_bytes()).unwrap();
        assert_eq!(
            (header.message_type.code, header.message_type.trigger),
            (&b"NMQ"[..], &b"N01"[..])
        );
        assert!(header.control_id.len() <= 20 && !query.contains('{'), "{query}");
    }

    #[test]
    fn a_message_that_could_not_be_acknowledged_is_refused_beforehand() {
        for (message, supported_so) in [
            ("", Ok(())),
            ("MSH|^~\\&|A|B|C|D|{time}||ADT^A08|4711|P|2.3", Ok(())),
            ("MSH|^~\\&|A|B|C|D|{time}||ADT^A08||P|2.3", Err(Malformed::NoControlId)),
            ("MSH", Err(Malformed::FieldSeparator)),
        ] {
            assert_eq!(supported(&of(message, &[])), supported_so, "{message}");
        }
    }

    /// An engine that answers each message with `answers`, in which `ID` stands for its control id.
    async fn engine(answers: &'static [&'static str]) -> Server {
        serve(move |mut stream| async move {
            let (mut decoder, mut buffer) = (Decoder::new(LIMIT), [0; 4096]);
            while let Ok(read @ 1..) = stream.read(&mut buffer).await {
                let Ok(Some(frame)) = decoder.read(&mut &buffer[..read]) else { continue };
                let id = Header::read(frame.message()).unwrap().control_id;
                let id = str::from_utf8(id).unwrap();
                for answer in answers {
                    let answer =
                        format!("MSH|^~\\&|||||||ACK|1|P|2.4\r{}\r", answer.replace("ID", id));
                    let frame = Frame::new(answer.as_bytes()).unwrap();
                    let _ = stream.write_all(frame.as_bytes()).await;
                }
            }
        })
        .await
    }

    #[tokio::test]
    async fn the_code_of_the_acknowledgement_decides() {
        let own = "MSH|^~\\&|A|B|C|D|{time}||ADT^A08|{id}|P|2.3";
        for (probe, answers, healthy, cause) in [
            (of(own, &[]), &["MSA|AA|ID"][..], true, "acknowledged with AA"),
            (of(own, &[]), &["MSA|CA|ID"], true, "acknowledged with CA"),
            (of(own, &[]), &["MSA|AE|ID"], false, "acknowledged with AE"),
            (of(own, &["AR"]), &["MSA|AR|ID"], true, "acknowledged with AR"),
            (of(own, &["AR"]), &["MSA|AA|ID"], false, "acknowledged with AA"),
            (of("", &[]), &["MSA|AR|ID"], true, "acknowledged with AR"),
            (of("", &["AA"]), &["MSA|AR|ID"], false, "acknowledged with AR"),
            // One of another message says nothing of this one.
            (of(own, &[]), &["MSA|AE|other", "MSA|AA|ID"], true, "acknowledged with AA"),
        ] {
            let server = engine(answers).await;
            let result = check(&Probe::Mllp(probe), server.address, LONG).await;
            assert_eq!((result.healthy, result.cause.as_str()), (healthy, cause));
            assert_eq!(result.layer, Layer::Application);
        }
        let server = engine(&["PID|not an acknowledgement"]).await;
        let result = check(&Probe::Mllp(of(own, &[])), server.address, LONG).await;
        let cause = "the answer is no acknowledgement: the message has no segment MSA";
        assert_failed(&result, Layer::Application, cause);
    }

    #[tokio::test]
    async fn engines_that_hang_or_hang_up_are_told_apart() {
        let probe = Probe::Mllp(of("", &[]));
        let mute = engine(&[]).await;
        let result = check(&probe, mute.address, SHORT).await;
        assert_failed(&result, Layer::Application, "timed out waiting for the acknowledgement");
        for (words, cause) in [
            (&b""[..], "connection closed without an acknowledgement"),
            (b"\x0bMSH|^~\\&|", "connection closed in the middle of an acknowledgement"),
            (b"who is there?", "connection closed without the acknowledgement of this message"),
        ] {
            let server = serve(move |mut stream| async move {
                let _ = stream.read(&mut [0; 4096]).await;
                let _ = stream.write_all(words).await;
            })
            .await;
            let result = check(&probe, server.address, LONG).await;
            assert_failed(&result, Layer::Application, cause);
        }
    }
}
