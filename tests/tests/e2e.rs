//! End to end: the real binaries, real archives and real clients.
//!
//! Names say what is shown: `api_*` what an operator's call does, `agent_*` how an appliance behaves,
//! `crowd_*` how many clients the proxy holds,
//! `durability_*` what the controller's disk keeps, `failover_*` what survives the death of a process,
//! `http_*` what clients of HTTP see, `identity_*` how certificates change while all goes on, `opening_*` who serves a client by what it says first, `page_*` what the System Overview page
//! shows, `protocol_*` what a medical protocol sees, `proxy_*` what other proxies do, `tls_*` what
//! clients and real servers that speak TLS see, `upgrade_*` what a new version of a process takes over.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "e2e/agent_crowd.rs"]
mod agent_crowd;
#[path = "e2e/agent_hold.rs"]
mod agent_hold;
#[path = "e2e/agent_questions.rs"]
mod agent_questions;
#[path = "e2e/agent_rejection.rs"]
mod agent_rejection;
#[path = "e2e/agent_scale.rs"]
mod agent_scale;
#[path = "e2e/agent_stream.rs"]
mod agent_stream;
#[path = "e2e/agent_versions.rs"]
mod agent_versions;
#[path = "e2e/api_balancer.rs"]
mod api_balancer;
#[path = "e2e/api_breaking.rs"]
mod api_breaking;
#[path = "e2e/api_certificates.rs"]
mod api_certificates;
#[path = "e2e/api_config.rs"]
mod api_config;
#[path = "e2e/api_docs.rs"]
mod api_docs;
#[path = "e2e/api_filters.rs"]
mod api_filters;
#[path = "e2e/api_foreign_client.rs"]
mod api_foreign_client;
#[path = "e2e/api_history.rs"]
mod api_history;
#[path = "e2e/api_hostile.rs"]
mod api_hostile;
#[path = "e2e/api_identity.rs"]
mod api_identity;
#[path = "e2e/api_plan.rs"]
mod api_plan;
#[path = "e2e/api_python.rs"]
mod api_python;
#[path = "e2e/crowd_layer7.rs"]
mod crowd_layer7;
#[path = "e2e/durability_backup.rs"]
mod durability_backup;
#[path = "e2e/durability_disk.rs"]
mod durability_disk;
#[path = "e2e/durability_kill.rs"]
mod durability_kill;
#[path = "e2e/failover_controller.rs"]
mod failover_controller;
#[path = "e2e/http_layer7.rs"]
mod http_layer7;
#[path = "e2e/identity_own_ca.rs"]
mod identity_own_ca;
#[path = "e2e/identity_renewal.rs"]
mod identity_renewal;
#[path = "e2e/identity_rotation.rs"]
mod identity_rotation;
#[path = "e2e/opening_layer7.rs"]
mod opening_layer7;
#[path = "e2e/page_login.rs"]
mod page_login;
#[path = "e2e/page_overview.rs"]
mod page_overview;
#[path = "e2e/protocol_association.rs"]
mod protocol_association;
#[path = "e2e/protocol_dicom.rs"]
mod protocol_dicom;
#[path = "e2e/protocol_mllp.rs"]
mod protocol_mllp;
#[path = "e2e/proxy_header.rs"]
mod proxy_header;
#[path = "e2e/tls_layer7.rs"]
mod tls_layer7;
#[path = "e2e/upgrade.rs"]
mod upgrade;
