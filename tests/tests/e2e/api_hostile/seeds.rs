//! Requests that are right in all but one thing, so that what is made wrong in them is reached: each
//! would change nothing even if it were accepted.

use prost_reflect::{DynamicMessage, MethodDescriptor};

/// By service and method, in the JSON form of the request.
pub(super) const SEEDS: &[(&str, &str)] = &[
    (
        "BalancerService.CreateVirtualService",
        r#"{"parent": "clusters/main", "virtualServiceId": "fresh", "validateOnly": true,
            "virtualService": {
                "displayName": "Fresh", "listener": {"address": "127.99.0.1", "ports": ["104"]},
                "layer7": {"mode": "DICOM_MODE", "clientTimeout": "60s"},
                "persistence": {"key": "CALLING_AE_TITLE", "timeout": "60s"},
                "healthCheck": {"interval": "4s", "timeout": "2s", "dicomEcho": {}},
                "fallback": {"address": "127.99.0.9", "port": 104}},
            "realServers": [{"name": "a", "endpoint": {"address": "127.99.0.2", "port": 104}}]}"#,
    ),
    (
        "BalancerService.UpdateVirtualService",
        r#"{"validateOnly": true, "updateMask": "displayName",
            "virtualService": {"name": "clusters/main/virtualServices/web", "displayName": "W"}}"#,
    ),
    ("BalancerService.GetVirtualService", r#"{"name": "clusters/main/virtualServices/web"}"#),
    (
        "BalancerService.DeleteVirtualService",
        r#"{"name": "clusters/main/virtualServices/web", "etag": "stale"}"#,
    ),
    (
        "BalancerService.ListVirtualServices",
        r#"{"parent": "clusters/main", "filter": "layer = 7"}"#,
    ),
    (
        "BalancerService.ListRealServers",
        r#"{"parent": "clusters/main/virtualServices/web", "filter": "weight > 0"}"#,
    ),
    (
        "BalancerService.GetRealServer",
        r#"{"name": "clusters/main/virtualServices/web/realServers/one"}"#,
    ),
    (
        "BalancerService.CreateRealServer",
        r#"{"parent": "clusters/main/virtualServices/web", "realServerId": "two",
            "validateOnly": true,
            "realServer": {"endpoint": {"address": "127.99.0.3", "port": 80}, "weight": 1,
                           "minConnections": 1, "maxConnections": 2}}"#,
    ),
    (
        "BalancerService.UpdateRealServer",
        r#"{"validateOnly": true, "updateMask": "weight",
            "realServer": {"name": "clusters/main/virtualServices/web/realServers/one",
                           "weight": 3, "endpoint": {"address": "127.99.0.3", "port": 80}}}"#,
    ),
    (
        "BalancerService.DeleteRealServer",
        r#"{"name": "clusters/main/virtualServices/web/realServers/one", "etag": "stale"}"#,
    ),
    (
        "BalancerService.DrainRealServer",
        r#"{"name": "clusters/main/virtualServices/web/realServers/none", "haltAfter": "5s"}"#,
    ),
    (
        "BalancerService.HaltRealServer",
        r#"{"name": "clusters/main/virtualServices/web/realServers/none"}"#,
    ),
    (
        "BalancerService.OnlineRealServer",
        r#"{"name": "clusters/main/virtualServices/web/realServers/none"}"#,
    ),
    (
        "ConfigService.ApplyConfig",
        r#"{"validateOnly": true, "config": {"name": "clusters/main", "services": [
            {"virtualService": {"name": "web", "layer4": {"method": "TUNNEL"},
                                "listener": {"address": "127.99.0.1", "ports": ["80"]}},
             "realServers": [{"name": "a", "endpoint": {"address": "127.99.0.2"}}]}]}}"#,
    ),
    ("ConfigService.PlanConfig", r#"{"config": {"name": "clusters/main"}}"#),
    (
        "ConfigService.RollbackConfig",
        r#"{"name": "clusters/main", "revision": "1.1", "validateOnly": true}"#,
    ),
    ("ConfigService.GetRevision", r#"{"name": "revisions/1.1"}"#),
    ("ConfigService.DiffRevisions", r#"{"parent": "clusters/main", "from": "1.1", "to": "1.2"}"#),
    ("FleetService.GetCluster", r#"{"name": "clusters/main"}"#),
    (
        "FleetService.CreateCluster",
        r#"{"clusterId": "fresh", "validateOnly": true, "cluster": {"displayName": "Fresh"}}"#,
    ),
    (
        "FleetService.UpdateCluster",
        r#"{"cluster": {"name": "clusters/main", "displayName": "Main"}, "validateOnly": true}"#,
    ),
    ("FleetService.DeleteCluster", r#"{"name": "clusters/main", "etag": "stale"}"#),
    ("FleetService.GetAppliance", r#"{"name": "clusters/main/appliances/lb1"}"#),
    ("FleetService.InviteAppliance", r#"{"parent": "clusters/none", "applianceId": "NOT AN ID"}"#),
    ("FleetService.DeleteAppliance", r#"{"name": "clusters/main/appliances/none"}"#),
    ("FleetService.ApproveRemovals", r#"{"name": "clusters/main/appliances/lb1"}"#),
    (
        "CertificateService.ImportCertificate",
        r#"{"name": "certificates/pacs", "chainPem": "-----BEGIN CERTIFICATE-----",
            "privateKeyPem": "-----BEGIN PRIVATE KEY-----", "validateOnly": true}"#,
    ),
    ("CertificateService.GetCertificate", r#"{"name": "certificates/none"}"#),
    ("UserService.GetUser", r#"{"name": "users/none"}"#),
    ("ObserveService.GetEvent", r#"{"name": "events/999999"}"#),
    ("CertificateService.DeleteCertificate", r#"{"name": "certificates/none"}"#),
    (
        "AgentService.WatchConfig",
        r#"{"agent": {"appliance": "clusters/main/appliances/lb1", "kind": "L7"}}"#,
    ),
    (
        "AgentService.Report",
        r#"{"agent": {"appliance": "clusters/main/appliances/lb1", "kind": "L7"}}"#,
    ),
    ("EnrollmentService.Join", r#"{"token": "gantry1.a.b", "certificateRequest": "-----BEGIN"}"#),
];

/// The seed of a method; empty when there is none.
pub(super) fn seed(method: &MethodDescriptor) -> DynamicMessage {
    let name = format!("{}.{}", method.parent_service().name(), method.name());
    let json = SEEDS.iter().find(|(of, _)| *of == name).map_or("{}", |(_, json)| *json);
    let mut reader = serde_json::Deserializer::from_str(json);
    let message = DynamicMessage::deserialize(method.input(), &mut reader);
    message.unwrap_or_else(|error| panic!("the seed of {name}: {error}"))
}
