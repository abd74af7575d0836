//! `tenant create`, `tenant list`, `tenant set`, `tenant disable`, `tenant enable`: who is served, and how much they may use.

use std::str::FromStr;

use clap::{Args, Subcommand};
use longhaul::proto::{
    json,
    v1::{CreateTenantRequest, ListTenantsRequest, Quotas, Tenant, UpdateTenantRequest},
};

use super::{
    connect::{ConnectArgs, Server, required},
    exit::{Exit, Failure},
    output::{Format, FormatArgs, Output},
    render::{self, table::Pages},
};

/// Tenants asked for at a time: the most that the server gives.
const TENANTS_PER_CALL: i32 = 1_000;

/// `longhaul tenant`
#[derive(Debug, Subcommand)]
pub enum TenantCommand {
    /// Make a tenant
    Create(TenantArgs),
    /// Print tenants
    List {
        #[command(flatten)]
        format: FormatArgs,
        #[command(flatten)]
        connect: ConnectArgs,
    },
    /// Change how much a tenant may use
    Set(TenantArgs),
    /// Refuse the credentials of a tenant, at once and everywhere; its jobs stay, and go on
    Disable(SwitchArgs),
    /// Accept the credentials of a tenant again
    Enable(SwitchArgs),
}

/// `longhaul tenant create` and `longhaul tenant set`
#[derive(Debug, Args)]
pub struct TenantArgs {
    /// Its name: 1 to 63 characters of [a-z0-9-], a letter or digit at both ends
    name: String,
    #[command(flatten)]
    quotas: QuotaArgs,
    #[command(flatten)]
    format: FormatArgs,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// How much a tenant may use; what is not said stays as it is.
#[derive(Debug, Args)]
#[command(
    next_help_heading = "Quotas (a number, 0 for no limit, or default for that of the server)"
)]
struct QuotaArgs {
    /// Jobs that it may submit in a second to a server, on the average; twice as many at once
    #[arg(long, value_name = "N")]
    quota_submits_per_second: Option<Quota<u32>>,
    /// Jobs that have not ended
    #[arg(long, value_name = "N")]
    quota_open_jobs: Option<Quota<u64>>,
    /// Watches and waits at a time, on each server
    #[arg(long, value_name = "N")]
    quota_watches: Option<Quota<u32>>,
    /// Connections at a time, on each server
    #[arg(long, value_name = "N")]
    quota_connections: Option<Quota<u32>>,
}

/// `longhaul tenant disable` and `longhaul tenant enable`
#[derive(Debug, Args)]
pub struct SwitchArgs {
    /// Its name
    name: String,
    #[command(flatten)]
    format: FormatArgs,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// A quota on the command line; without a number it is that of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Quota<N>(Option<N>);

impl<N: FromStr> FromStr for Quota<N> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "default" => Ok(Self(None)),
            number => {
                let number = number.parse().map(Some).map(Self);
                number.map_err(|_| format!("'{text}' is neither a number nor default"))
            }
        }
    }
}

impl QuotaArgs {
    fn is_empty(&self) -> bool {
        let Self {
            quota_submits_per_second,
            quota_open_jobs,
            quota_watches,
            quota_connections,
        } = self;
        quota_submits_per_second.is_none()
            && quota_open_jobs.is_none()
            && quota_watches.is_none()
            && quota_connections.is_none()
    }

    /// These quotas, with what was said instead.
    fn over(&self, old: Quotas) -> Quotas {
        Quotas {
            submits_per_second: said(self.quota_submits_per_second, old.submits_per_second),
            open_jobs: said(self.quota_open_jobs, old.open_jobs),
            stored_bytes: old.stored_bytes,
            watches: said(self.quota_watches, old.watches),
            connections: said(self.quota_connections, old.connections),
        }
    }
}

fn said<N>(quota: Option<Quota<N>>, old: Option<N>) -> Option<N> {
    quota.map_or(old, |quota| quota.0)
}

/// Does what a `tenant` command says.
pub async fn run(command: TenantCommand, out: &mut Output) -> Result<Exit, Failure> {
    match command {
        TenantCommand::Create(args) => create(args, out).await,
        TenantCommand::List { format, connect } => list(&format, &connect, out).await,
        TenantCommand::Set(args) => set(args, out).await,
        TenantCommand::Disable(args) => switch(args, true, out).await,
        TenantCommand::Enable(args) => switch(args, false, out).await,
    }
}

async fn create(args: TenantArgs, out: &mut Output) -> Result<Exit, Failure> {
    let server = args.connect.connect().await?;
    let request = CreateTenantRequest {
        tenant: Some(Tenant {
            name: args.name,
            quotas: Some(args.quotas.over(Quotas::default())),
            ..Default::default()
        }),
    };
    let answer = server.answer(server.client.admin().create_tenant(request).await)?;
    let tenant = required(answer.tenant.as_ref(), "tenant")?;
    out.answer(&args.format, &answer, render::tenants::lines(tenant))
}

async fn set(args: TenantArgs, out: &mut Output) -> Result<Exit, Failure> {
    if args.quotas.is_empty() {
        return Err(Failure::usage("there is nothing to set")
            .hint("say how much it may use: longhaul tenant set NAME --quota-open-jobs 1000"));
    }
    let server = args.connect.connect().await?;
    // The server takes all quotas at once, and so those that stay as they are have to be known.
    let old = known(&server, &args.name).await?;
    let old = old.and_then(|tenant| tenant.quotas).unwrap_or_default();
    let request = UpdateTenantRequest {
        name: args.name,
        quotas: Some(args.quotas.over(old)),
        disabled: None,
    };
    let answer = server.answer(server.client.admin().update_tenant(request).await)?;
    let tenant = required(answer.tenant.as_ref(), "tenant")?;
    out.answer(&args.format, &answer, render::tenants::lines(tenant))
}

async fn switch(args: SwitchArgs, disabled: bool, out: &mut Output) -> Result<Exit, Failure> {
    let server = args.connect.connect().await?;
    let request = UpdateTenantRequest {
        name: args.name.clone(),
        quotas: None,
        disabled: Some(disabled),
    };
    let answer = server.answer(server.client.admin().update_tenant(request).await)?;
    let name = args.name;
    let done = match disabled {
        true => format!(
            "credentials of tenant {name} are refused; go on with: longhaul tenant enable {name}"
        ),
        false => format!("credentials of tenant {name} are accepted again"),
    };
    out.done(&args.format, &answer, done)
}

async fn list(
    format: &FormatArgs,
    connect: &ConnectArgs,
    out: &mut Output,
) -> Result<Exit, Failure> {
    let server = connect.connect().await?;
    let mut pages = Pages::default();
    let mut token = Some(String::new());
    let mut printed = 0;
    while let Some(page_token) = token {
        let (tenants, next) = page(&server, page_token).await?;
        match format.output {
            Format::Text if tenants.is_empty() => {}
            Format::Text => out.lines(pages.lines(render::tenants::rows(&tenants)))?,
            Format::Json => out.lines(json::lines(&tenants)?)?,
        }
        printed += tenants.len();
        token = next;
    }
    if printed == 0 && format.output == Format::Text {
        out.note("no tenant but the default one; make one: longhaul tenant create NAME");
    }
    Ok(Exit::Success)
}

/// The tenant of this name, if the server has a record of it.
async fn known(server: &Server, name: &str) -> Result<Option<Tenant>, Failure> {
    let mut token = Some(String::new());
    while let Some(page_token) = token {
        let (tenants, next) = page(server, page_token).await?;
        if let Some(found) = tenants.into_iter().find(|tenant| tenant.name == name) {
            return Ok(Some(found));
        }
        token = next;
    }
    Ok(None)
}

/// A page of tenants, and what the next one is asked for with, if there is one.
async fn page(
    server: &Server,
    page_token: String,
) -> Result<(Vec<Tenant>, Option<String>), Failure> {
    let request = ListTenantsRequest {
        page_size: TENANTS_PER_CALL,
        page_token,
    };
    let page = server.answer(server.client.admin().list_tenants(request).await)?;
    let next = Some(page.next_page_token).filter(|token| !token.is_empty());
    Ok((page.tenants, next))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_said_stays_as_it_is() {
        let args = QuotaArgs {
            quota_submits_per_second: Some("default".parse().unwrap()),
            quota_open_jobs: Some("0".parse().unwrap()),
            quota_watches: None,
            quota_connections: Some("7".parse().unwrap()),
        };
        let old = Quotas {
            submits_per_second: Some(1),
            open_jobs: Some(2),
            stored_bytes: Some(3),
            watches: Some(4),
            connections: None,
        };
        let new = Quotas {
            submits_per_second: None,
            open_jobs: Some(0),
            stored_bytes: Some(3),
            watches: Some(4),
            connections: Some(7),
        };
        assert_eq!(args.over(old), new);
        assert!("many".parse::<Quota<u32>>().is_err());
        assert!("-1".parse::<Quota<u32>>().is_err());
    }
}
