use std::process::Command;

use dicom_ul::pdu::PresentationContextResult;
use gantry_model::check::{AeTitle, Probe};
use gantry_model::verdict::Layer;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

use super::super::testing::*;
use super::*;

fn echo(called: &str, tls: bool) -> Probe {
    let title = |text| AeTitle::new(text).unwrap();
    Probe::DicomEcho(DicomEcho { calling: title("GANTRY"), called: title(called), tls })
}

/// What the server does after reading the association request, and after reading the C-ECHO.
#[derive(Clone)]
struct Script {
    association: Vec<u8>,
    echo: Vec<u8>,
}

fn encoded(pdu: &Pdu) -> Vec<u8> {
    let mut bytes = Vec::new();
    write_pdu(&mut bytes, pdu).unwrap();
    bytes
}

fn acceptance(reason: PresentationContextResultReason) -> Vec<u8> {
    encoded(&Pdu::AssociationAC(AssociationAC {
        protocol_version: 1,
        calling_ae_title: "GANTRY".into(),
        called_ae_title: "PACS1".into(),
        application_context_name: APPLICATION_CONTEXT.into(),
        presentation_contexts: vec![PresentationContextResult {
            id: CONTEXT,
            reason,
            transfer_syntax: IMPLICIT_VR_LITTLE_ENDIAN.into(),
        }],
        user_variables: vec![UserVariableItem::MaxLength(0)],
    }))
}

fn accepted_association() -> Vec<u8> {
    acceptance(PresentationContextResultReason::Acceptance)
}

/// The command set of a response: command field, message id responded to, data set type, status.
fn response(command: u16, message: u16, status: u16) -> Vec<u8> {
    let values = [(0x0100, command), (0x0120, message), (0x0800, 0x0101), (0x0900, status)];
    let element = |(tag, value): (u16, u16)| {
        let ([t0, t1], [v0, v1]) = (tag.to_le_bytes(), value.to_le_bytes());
        [0, 0, t0, t1, 2, 0, 0, 0, v0, v1]
    };
    values.into_iter().flat_map(element).collect()
}

fn fragment(data: &[u8], is_last: bool) -> Vec<u8> {
    encoded(&Pdu::PData {
        data: vec![PDataValue {
            presentation_context_id: CONTEXT,
            value_type: PDataValueType::Command,
            is_last,
            data: data.to_vec(),
        }],
    })
}

fn echo_answer(status: u16) -> Vec<u8> {
    fragment(&response(0x8030, MESSAGE, status), true)
}

const MESSAGE: u16 = 1;

async fn read_frame(stream: &mut (impl AsyncRead + Unpin)) -> Option<Vec<u8>> {
    let mut bytes = vec![0; 6];
    stream.read_exact(&mut bytes).await.ok()?;
    let length = u32::from_be_bytes(bytes[2..6].try_into().unwrap());
    bytes.resize(6 + length as usize, 0);
    stream.read_exact(&mut bytes[6..]).await.ok()?;
    Some(bytes)
}

/// Plays `script` and notes the types of the PDUs that came after it.
async fn play<S>(mut stream: S, script: Script, heard: mpsc::Sender<Vec<u8>>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    read_frame(&mut stream).await.unwrap();
    stream.write_all(&script.association).await.unwrap();
    let mut types = Vec::new();
    while let Some(frame) = read_frame(&mut stream).await {
        types.push(frame[0]);
        let answer: &[u8] = match frame[0] {
            0x04 => &script.echo,
            0x05 => &[0x06, 0, 0, 0, 0, 4, 0, 0, 0, 0],
            _ => &[],
        };
        let _ = stream.write_all(answer).await;
    }
    heard.send(types).await.unwrap();
}

/// Checks a server with `script`: the result, and the types of the PDUs that it got.
async fn checked(script: Script, silent: bool) -> (bool, String, Vec<u8>) {
    let (heard, mut hears) = mpsc::channel(1);
    let server = serve(move |stream| play(stream, script.clone(), heard.clone())).await;
    let timeout = if silent { SHORT } else { LONG };
    let result = check(&echo("PACS1", false), server.address, timeout).await;
    assert_eq!(result.layer, Layer::Application);
    (result.healthy, result.cause, hears.recv().await.unwrap())
}

#[tokio::test]
async fn a_status_is_read_and_the_association_released() {
    let cases = [
        (0x0000, true, "C-ECHO 0x0000"),
        (0x0110, false, "C-ECHO answered 0x0110 (processing failure)"),
        (0xC000, false, "C-ECHO answered 0xC000"),
    ];
    for (status, healthy, cause) in cases {
        let script = Script { association: accepted_association(), echo: echo_answer(status) };
        let expected = (healthy, cause.to_owned(), vec![0x04, 0x05]);
        assert_eq!(checked(script, false).await, expected);
    }
}

#[tokio::test]
async fn dicom_over_tls() {
    let (acceptor, (heard, mut hears)) = (acceptor(), mpsc::channel(1));
    let server = serve(move |stream| {
        let script = Script { association: accepted_association(), echo: echo_answer(0) };
        let (acceptor, heard) = (acceptor.clone(), heard.clone());
        async move { play(acceptor.accept(stream).await.unwrap(), script, heard).await }
    })
    .await;
    let result = check(&echo("PACS1", true), server.address, LONG).await;
    assert_healthy(&result, Layer::Application, "C-ECHO 0x0000");
    assert_eq!(hears.recv().await.unwrap(), [0x04, 0x05]);
}

#[tokio::test]
async fn a_response_in_pieces_is_put_together() {
    let response = response(0x8030, MESSAGE, 0);
    let pieces = [fragment(&response[..13], false), fragment(&response[13..], true)].concat();
    let script = Script { association: accepted_association(), echo: pieces };
    assert!(checked(script, false).await.0);
}

#[tokio::test]
async fn rejections_and_aborts_are_told_with_their_reasons_and_not_answered() {
    let cases: [([u8; 10], &str); 5] = [
        (
            [0x03, 0, 0, 0, 0, 4, 0, 1, 1, 7],
            "association rejected: called AE title not recognized (permanent, service user)",
        ),
        (
            [0x03, 0, 0, 0, 0, 4, 0, 2, 3, 2],
            "association rejected: local limit exceeded (transient, service provider, presentation)",
        ),
        ([0x07, 0, 0, 0, 0, 4, 0, 0, 0, 0], "association aborted by the server"),
        (
            [0x07, 0, 0, 0, 0, 4, 0, 0, 2, 6],
            "association aborted by the server: invalid PDU parameter value (service provider)",
        ),
        (
            [0x05, 0, 0, 0, 0, 4, 0, 0, 0, 0],
            "the server answered the association request with a release",
        ),
    ];
    for (answer, cause) in cases {
        let script = Script { association: answer.to_vec(), echo: vec![] };
        let (healthy, seen, heard) = checked(script, false).await;
        assert_eq!((healthy, seen.as_str()), (false, cause));
        let goodbye = if answer[0] == 0x05 { vec![0x07] } else { vec![] };
        assert_eq!(heard, goodbye, "{cause}");
    }
}

#[tokio::test]
async fn an_abort_instead_of_a_response() {
    let abort = vec![0x07, 0, 0, 0, 0, 4, 0, 0, 2, 0];
    let script = Script { association: accepted_association(), echo: abort };
    let cause = "association aborted by the server: reason not specified (service provider)";
    assert_eq!(checked(script, false).await, (false, cause.to_owned(), vec![0x04]));
}

#[tokio::test]
async fn answers_that_are_wrong_end_in_an_abort() {
    let good = accepted_association;
    let refused = acceptance(PresentationContextResultReason::AbstractSyntaxNotSupported);
    let half = || echo_answer(0)[..20].to_vec();
    let cases = [
        (b"SSH-2.0-OpenSSH_9.9\r\n".to_vec(), vec![], "the answer is not DICOM"),
        (
            vec![0x02, 0, 0xFF, 0xFF, 0xFF, 0xFF],
            vec![],
            "the server announced a PDU of 4294967295 bytes",
        ),
        (vec![0x02, 0, 0, 0, 0, 3, 1, 2, 3], vec![], "the answer is not well-formed DICOM"),
        (
            refused,
            vec![],
            "association accepted, but not for C-ECHO (abstract syntax not supported)",
        ),
        (good(), good(), "the server answered the C-ECHO with an acceptance"),
        (
            good(),
            fragment(&response(0x8030, 9, 0), true),
            "the C-ECHO response is for message 9, not 1",
        ),
        (
            good(),
            fragment(&response(0x8001, MESSAGE, 0), true),
            "the server answered the C-ECHO with command 0x8001",
        ),
        (good(), fragment(&[1, 2, 3], true), "the C-ECHO response is malformed"),
        (good(), fragment(&[0; 70_000], false), "the C-ECHO response is too long"),
    ];
    for (association, echo, cause) in cases {
        let (healthy, seen, heard) = checked(Script { association, echo }, false).await;
        assert_eq!((healthy, seen.as_str()), (false, cause));
        assert_eq!(heard.last(), Some(&0x07), "{cause}");
    }
    let script = Script { association: accepted_association(), echo: half() };
    let cause = "timed out waiting for the C-ECHO response";
    assert_eq!(checked(script, true).await, (false, cause.to_owned(), vec![0x04, 0x07]));
}

#[tokio::test]
async fn silence_runs_out_of_time_and_is_aborted() {
    let silence = Script { association: vec![], echo: vec![] };
    let cause = "timed out waiting for the association to be accepted";
    assert_eq!(checked(silence, true).await, (false, cause.to_owned(), vec![0x07]));
    let script = Script { association: accepted_association(), echo: vec![] };
    let cause = "timed out waiting for the C-ECHO response";
    assert_eq!(checked(script, true).await, (false, cause.to_owned(), vec![0x04, 0x07]));
}

#[tokio::test]
async fn connections_that_close() {
    let closes = serve(|mut stream| async move {
        read_frame(&mut stream).await;
    })
    .await;
    let result = check(&echo("PACS1", false), closes.address, LONG).await;
    assert_failed(&result, Layer::Application, "connection closed instead of an answer");
    let half = serve(|mut stream| async move {
        read_frame(&mut stream).await;
        stream.write_all(&accepted_association()[..40]).await.unwrap();
    })
    .await;
    let result = check(&echo("PACS1", false), half.address, LONG).await;
    assert_failed(&result, Layer::Application, "connection closed in the middle of an answer");
}

#[tokio::test]
async fn a_server_that_never_releases_is_healthy_all_the_same() {
    let server = serve(|mut stream| async move {
        read_frame(&mut stream).await.unwrap();
        stream.write_all(&accepted_association()).await.unwrap();
        read_frame(&mut stream).await.unwrap();
        stream.write_all(&echo_answer(0)).await.unwrap();
        let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
    })
    .await;
    let result = check(&echo("PACS1", false), server.address, LONG).await;
    assert_healthy(&result, Layer::Application, "C-ECHO 0x0000");
}

#[tokio::test]
async fn dcmtk_answers_and_refuses() {
    let storescp = |port: u16, option: &str| {
        Process::start(Command::new("storescp").args([option, "--ignore", &port.to_string()]))
    };
    let address = nobody().await;
    let server = storescp(address.port(), "--implicit");
    let result = check_when_up(&echo("PACS1", false), address).await;
    assert_healthy(&result, Layer::Application, "C-ECHO 0x0000");
    drop(server);
    let address = nobody().await;
    let _server = storescp(address.port(), "--refuse");
    let result = check_when_up(&echo("PACS1", false), address).await;
    let cause = "association rejected: no reason given (permanent, service user)";
    assert_failed(&result, Layer::Application, cause);
}

#[tokio::test]
async fn orthanc_answers_and_knows_its_title() {
    let (folder, address) = (tempfile::tempdir().unwrap(), nobody().await);
    let config = folder.path().join("orthanc.json");
    let storage = folder.path().join("storage");
    let text = format!(
        r#"{{"DicomAet": "PACS1", "DicomCheckCalledAet": true, "DicomPort": {}, "Plugins": [],
            "HttpServerEnabled": false, "StorageDirectory": {storage:?}}}"#,
        address.port()
    );
    std::fs::write(&config, text).unwrap();
    let _orthanc = Process::start(Command::new("Orthanc").arg(&config));
    let result = check_when_up(&echo("PACS1", false), address).await;
    assert_healthy(&result, Layer::Application, "C-ECHO 0x0000");
    let result = check(&echo("PACS2", false), address, LONG).await;
    let cause = "association rejected: called AE title not recognized (permanent, service user)";
    assert_failed(&result, Layer::Application, cause);
}
