//! Filters from the command line, and pages that belong to what was asked.

use gantry_proto::v1 as pb;
use gantry_tests::Site;
use gantry_tests::services::{layer7, server};
use tonic::Code;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn api_filters_choose_what_lists_and_events_show() {
    let site = Site::controller_only().await;
    for (id, last) in [("dicom", 10), ("dicom-2", 11), ("hl7", 12)] {
        let servers = vec![server("one", site.block.socket(20, 80))];
        site.create(id, layer7(site.block.socket(last, 80)), servers).await;
    }
    let get = async |arguments: &[&str]| {
        let arguments = [&["get", "-o", "name"], arguments].concat();
        site.gantry(&arguments).await
    };
    let found = get(&["vs", "--filter", "name : dicom AND status.state != UP"]).await.output();
    assert_eq!(found.lines().count(), 2, "{found}");
    let address = site.block.address(12).to_string();
    let filter = format!("listener.address = {address} AND listener.ports = 80");
    assert!(get(&["vs", "--filter", &filter]).await.output().ends_with("virtualServices/hl7\n"));
    let of_one = get(&["rs", "dicom", "--filter", "weight >= 100"]).await.output();
    assert_eq!(of_one.lines().count(), 1, "{of_one}");
    let wrong = get(&["rs", "--filter", "colour = red"]).await;
    let words =
        "filter: at character 1: there is no field \"colour\"; there are name, display_name";
    assert!(wrong.err.contains(words), "{wrong:?}");
    let both = get(&["vs", "hl7", "--filter", "layer = 7"]).await;
    assert!(both.err.contains("give names or a filter, not both"), "{both:?}");
    let events = ["events", "--filter", "type = VIRTUAL_SERVICE_CREATED AND subject : dicom"];
    assert_eq!(site.gantry(&events).await.output().lines().count(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn api_filters_fill_pages_and_tokens_belong_to_them() {
    let site = Site::controller_only().await;
    for last in 10..16 {
        let id = format!("s{last}");
        site.create(&id, layer7(site.block.socket(last, 80)), Vec::new()).await;
    }
    let list = async |filter: &str, page_token: &str| {
        let request = pb::ListEventsRequest {
            page_size: 2,
            page_token: page_token.to_owned(),
            filter: filter.to_owned(),
            ..Default::default()
        };
        site.observe().list_events(request).await.map(|answer| answer.into_inner())
    };
    let filter = "subject : virtualServices AND subject != clusters/main/virtualServices/s14";
    let (mut pages, mut token) = (Vec::new(), String::new());
    loop {
        let page = list(filter, &token).await.unwrap();
        pages.push(page.events.len());
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(pages, [2, 2, 1]);
    let first = list(filter, "").await.unwrap();
    let refused = list("severity = INFO", &first.next_page_token).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().contains("another parent or filter"), "{refused:?}");
}
