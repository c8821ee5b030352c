//! Whole lists, page after page.

use gantry_proto::v1;
use tonic::Status;

use crate::session::Session;

const PAGE: i32 = 1000;

/// Virtual services of `parent`, or of every cluster if it is empty, that match `filter`.
pub(crate) async fn services(
    session: &Session,
    parent: String,
    filter: &str,
) -> Result<Vec<v1::VirtualService>, Status> {
    every_page(async |page_token| {
        let request = v1::ListVirtualServicesRequest {
            parent: parent.clone(),
            page_size: PAGE,
            page_token,
            filter: filter.to_owned(),
        };
        let answer = session.balancer().list_virtual_services(request).await?.into_inner();
        Ok((answer.virtual_services, answer.next_page_token))
    })
    .await
}

/// Real servers of `parent`, a virtual service or `clusters/-/virtualServices/-`, that
/// match `filter`.
pub(crate) async fn servers(
    session: &Session,
    parent: String,
    filter: &str,
) -> Result<Vec<v1::RealServer>, Status> {
    every_page(async |page_token| {
        let request = v1::ListRealServersRequest {
            parent: parent.clone(),
            page_size: PAGE,
            page_token,
            filter: filter.to_owned(),
        };
        let answer = session.balancer().list_real_servers(request).await?.into_inner();
        Ok((answer.real_servers, answer.next_page_token))
    })
    .await
}

/// Every cluster that matches `filter`.
pub(crate) async fn clusters(session: &Session, filter: &str) -> Result<Vec<v1::Cluster>, Status> {
    every_page(async |page_token| {
        let request =
            v1::ListClustersRequest { page_size: PAGE, page_token, filter: filter.to_owned() };
        let answer = session.fleet().list_clusters(request).await?.into_inner();
        Ok((answer.clusters, answer.next_page_token))
    })
    .await
}

/// Appliances of `parent`, or of every cluster if it is empty, that match `filter`.
pub(crate) async fn appliances(
    session: &Session,
    parent: String,
    filter: &str,
) -> Result<Vec<v1::Appliance>, Status> {
    every_page(async |page_token| {
        let request = v1::ListAppliancesRequest {
            parent: parent.clone(),
            page_size: PAGE,
            page_token,
            filter: filter.to_owned(),
        };
        let answer = session.fleet().list_appliances(request).await?.into_inner();
        Ok((answer.appliances, answer.next_page_token))
    })
    .await
}

/// Every certificate that matches `filter`.
pub(crate) async fn certificates(
    session: &Session,
    filter: &str,
) -> Result<Vec<v1::Certificate>, Status> {
    every_page(async |page_token| {
        let filter = filter.to_owned();
        let request = v1::ListCertificatesRequest { page_size: PAGE, page_token, filter };
        let answer = session.certificates().list_certificates(request).await?.into_inner();
        Ok((answer.certificates, answer.next_page_token))
    })
    .await
}

/// Calls `fetch` with the token of each page until there is none.
async fn every_page<T>(
    mut fetch: impl AsyncFnMut(String) -> Result<(Vec<T>, String), Status>,
) -> Result<Vec<T>, Status> {
    let mut all = Vec::new();
    let mut token = String::new();
    loop {
        let (page, next) = fetch(token).await?;
        all.extend(page);
        if next.is_empty() {
            return Ok(all);
        }
        token = next;
    }
}
