//! Who is called, as whom, and the clients to do it with.
//!
//! A session is made from flags, environment and settings without touching the network; the first
//! call connects. It also completes names that lack their cluster.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use gantry_model::name::ClusterName;
use gantry_proto::v1::ListClustersRequest;
use gantry_proto::v1::authority_service_client::AuthorityServiceClient;
use gantry_proto::v1::balancer_service_client::BalancerServiceClient;
use gantry_proto::v1::certificate_service_client::CertificateServiceClient;
use gantry_proto::v1::config_service_client::ConfigServiceClient;
use gantry_proto::v1::fleet_service_client::FleetServiceClient;
use gantry_proto::v1::observe_service_client::ObserveServiceClient;
use gantry_runtime::identity::Identity;
use gantry_runtime::rpc;
use tonic::transport::Channel;

use crate::document::human_duration;
use crate::names::{self, Name, Reference};
use crate::settings::{self, Settings};
use crate::timed::Timed;

/// An overview of thousands of services is some megabytes.
const LARGEST_ANSWER: usize = 512 << 20;

const CALLING: &str = "Calling the controller";

/// Flags that every command takes.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Global {
    /// Use this context and not the current one [env: GANTRY_CONTEXT]
    #[arg(long, value_name = "NAME", env = "GANTRY_CONTEXT", global = true, help_heading = CALLING)]
    #[arg(hide_env = true, display_order = 1000)]
    pub(crate) context: Option<String>,
    /// Call this controller: https://host:port [env: GANTRY_CONTROLLER]
    #[arg(long, value_name = "URL", env = "GANTRY_CONTROLLER", global = true, help_heading = CALLING)]
    #[arg(hide_env = true, display_order = 1000)]
    pub(crate) controller: Option<String>,
    /// Call with ca.pem, certificate.pem and key.pem of DIR [env: GANTRY_IDENTITY]
    #[arg(long, value_name = "DIR", env = "GANTRY_IDENTITY", global = true, help_heading = CALLING)]
    #[arg(hide_env = true, display_order = 1000)]
    pub(crate) identity: Option<PathBuf>,
    /// Cluster that short names are in, when there are several
    #[arg(long, value_name = "CLUSTER", global = true, help_heading = CALLING)]
    #[arg(display_order = 1000)]
    pub(crate) cluster: Option<String>,
    /// Give a call up that is not answered within this [default: 30s]
    #[arg(long, value_name = "DURATION", value_parser = patience, global = true)]
    #[arg(help_heading = CALLING, display_order = 1000)]
    pub(crate) timeout: Option<Duration>,
}

/// How long a call may take if nothing else was said.
const PATIENCE: Duration = Duration::from_secs(30);

/// Who is called, and as whom.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) controller: String,
    pub(crate) identity: PathBuf,
    /// From the flag, else from the context.
    pub(crate) cluster: Option<ClusterName>,
    /// From the flag only.
    pub(crate) cluster_flag: Option<ClusterName>,
    /// How long a call may take.
    pub(crate) timeout: Duration,
}

#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) target: Target,
    /// The resource name in the certificate.
    pub(crate) caller: String,
    pub(crate) identity: Identity,
    channel: Timed,
}

impl Target {
    pub(crate) fn choose(global: &Global) -> Result<Self> {
        let settings = Settings::load(&settings::path()?)?;
        let chosen = global.context.as_ref().or(settings.current.as_ref());
        let both_given = global.controller.is_some() && global.identity.is_some();
        let context = match chosen {
            Some(name) if global.context.is_some() || !both_given => Some(settings.context(name)?),
            _ => None,
        };
        let controller =
            global.controller.clone().or(context.map(|found| found.controller.clone()));
        let identity = global.identity.clone().or(context.map(|found| found.identity.clone()));
        let controller = controller.context(
            "no controller to call: give --controller and --identity, or keep them with\n  \
             gantry context set NAME --controller https://host:port --identity DIR",
        )?;
        let identity =
            identity.context("no identity to call the controller with: give --identity DIR")?;
        let cluster_flag = global.cluster.as_deref().map(cluster_name).transpose()?;
        let of_context = context.and_then(|context| context.cluster.as_deref());
        let cluster = match (&cluster_flag, of_context) {
            (Some(cluster), _) => Some(cluster.clone()),
            (None, cluster) => cluster.map(cluster_name).transpose()?,
        };
        let timeout = global.timeout.unwrap_or(PATIENCE);
        Ok(Self { controller, identity, cluster, cluster_flag, timeout })
    }
}

impl Session {
    pub(crate) fn open(target: Target) -> Result<Self> {
        let identity = Identity::load(&target.identity)?;
        let channel = rpc::connect(&target.controller, &identity)?;
        let channel = Timed::new(channel, target.timeout);
        Ok(Self { target, caller: identity.name().to_owned(), identity, channel })
    }

    pub(crate) fn channel(&self) -> Channel {
        self.channel.plain()
    }

    pub(crate) fn authority(&self) -> AuthorityServiceClient<Timed> {
        AuthorityServiceClient::new(self.channel.clone())
    }

    pub(crate) fn balancer(&self) -> BalancerServiceClient<Timed> {
        BalancerServiceClient::new(self.channel.clone()).max_decoding_message_size(LARGEST_ANSWER)
    }

    pub(crate) fn certificates(&self) -> CertificateServiceClient<Timed> {
        CertificateServiceClient::new(self.channel.clone())
            .max_decoding_message_size(LARGEST_ANSWER)
    }

    pub(crate) fn fleet(&self) -> FleetServiceClient<Timed> {
        FleetServiceClient::new(self.channel.clone()).max_decoding_message_size(LARGEST_ANSWER)
    }

    pub(crate) fn observe(&self) -> ObserveServiceClient<Timed> {
        ObserveServiceClient::new(self.channel.clone()).max_decoding_message_size(LARGEST_ANSWER)
    }

    pub(crate) fn config(&self) -> ConfigServiceClient<Timed> {
        ConfigServiceClient::new(self.channel.clone()).max_decoding_message_size(LARGEST_ANSWER)
    }

    /// The cluster given by flag or context, else the only one there is.
    pub(crate) async fn cluster(&self) -> Result<ClusterName> {
        if let Some(cluster) = &self.target.cluster {
            return Ok(cluster.clone());
        }
        let request = ListClustersRequest { page_size: 20, ..Default::default() };
        let clusters = self.fleet().list_clusters(request).await?.into_inner().clusters;
        match clusters.as_slice() {
            [only] => Ok(only.name.parse()?),
            [] => bail!("there is no cluster yet: make one with gantry create cluster ID"),
            many => {
                let ids: Vec<_> = many.iter().map(|cluster| names::last(&cluster.name)).collect();
                bail!("which cluster? there are {}: give --cluster", ids.join(", "))
            }
        }
    }

    /// The whole name that `reference` stands for.
    pub(crate) async fn resolve(&self, reference: Reference) -> Result<Name> {
        match reference {
            Reference::Whole(name) => Ok(name),
            short => Ok(short.within(&self.cluster().await?)),
        }
    }

    /// The parent for lists: the cluster given by flag or context, or empty for all.
    pub(crate) fn parent(&self) -> String {
        self.target.cluster.as_ref().map(ToString::to_string).unwrap_or_default()
    }
}

fn patience(text: &str) -> Result<Duration, String> {
    let given = human_duration(text)?;
    let given = Duration::try_from(given).ok().filter(|given| !given.is_zero());
    given.ok_or_else(|| "give more than 0s".to_owned())
}

/// A cluster's name from `main` or `clusters/main`.
pub(crate) fn cluster_name(text: &str) -> Result<ClusterName> {
    let name =
        if text.contains('/') { text.parse()? } else { ClusterName { cluster: text.parse()? } };
    Ok(name)
}
