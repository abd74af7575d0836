//! `key create`, `key list`, `key revoke`, `whoami`: credentials, and who the caller is by its own.

use clap::{Args, Subcommand, ValueEnum, builder::PossibleValue};
use jiff::Timestamp;
use longhaul::{
    auth::PREFIX,
    proto::{
        json,
        v1::{
            CreateKeyRequest, CreateKeyResponse, GetCallerRequest, ListKeysRequest,
            RevokeKeyRequest, Role,
        },
    },
};

use super::{
    connect::{ConnectArgs, required},
    exit::{Exit, Failure},
    output::{Format, FormatArgs, Output},
    render::{self, table::Pages},
    show::OverviewArgs,
    text::{self, FAINT, paint},
    time::{self, HumanDuration},
};

/// Keys asked for at a time: the most that the server gives.
const KEYS_PER_CALL: i32 = 1_000;

/// `longhaul key`
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// Make a credential; its secret is printed once
    Create(CreateArgs),
    /// Print credentials, those included that are no longer good
    List {
        /// Only those of this tenant
        #[arg(
            long,
            value_name = "TENANT",
            default_value = "",
            hide_default_value = true
        )]
        tenant: String,
        #[command(flatten)]
        format: FormatArgs,
        #[command(flatten)]
        connect: ConnectArgs,
    },
    /// End a credential for ever, and whatever was begun with it
    Revoke {
        /// Its id, which stands in the key between lh_ and the next _, or all of it
        key: String,
        #[command(flatten)]
        format: FormatArgs,
        #[command(flatten)]
        connect: ConnectArgs,
    },
}

/// `longhaul key create`
#[derive(Debug, Args)]
#[command(after_help = "\
The key goes to stdout, alone, and everything else to stderr:
  longhaul key create --role submit --role read nina > nina.key
  LONGHAUL_API_KEY=$(longhaul key create --tenant acme --role work --driver copier --expires 90d) longhaul work --driver copier -- ./copy.sh

Of a certificate the holder is known by a name in it, and there is no secret: what is printed is the id.
  longhaul key create --role work --certificate spiffe://example.com/copier")]
pub struct CreateArgs {
    /// What people call it
    #[arg(value_name = "NAME", default_value = "", hide_default_value = true)]
    name: String,
    /// Tenant that its holder acts for [default: that of the caller]
    #[arg(
        long,
        value_name = "TENANT",
        default_value = "",
        hide_default_value = true
    )]
    tenant: String,
    /// What its holder may do; may be given more than once
    #[arg(
        long = "role",
        value_name = "ROLE",
        value_delimiter = ',',
        required = true
    )]
    roles: Vec<RoleName>,
    /// Driver whose tasks its holder may take, with the role work; may be given more than once [default: all]
    #[arg(long = "driver", value_name = "NAME", value_delimiter = ',')]
    drivers: Vec<String>,
    /// Its holder works, administers and audits for all tenants
    #[arg(long)]
    all_tenants: bool,
    /// When it ends by itself: after a time such as 90d, or at an instant such as 2030-01-31T00:00:00Z [default: never]
    #[arg(long, value_name = "TIME")]
    expires: Option<End>,
    /// Not an API key, but this name in certificates of clients: a URI such as spiffe://example.com/worker, or dns:NAME
    #[arg(
        long,
        value_name = "NAME",
        default_value = "",
        hide_default_value = true
    )]
    certificate: String,
    #[command(flatten)]
    format: FormatArgs,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// A role on the command line.
#[derive(Clone, Copy, Debug)]
struct RoleName(Role);

impl ValueEnum for RoleName {
    fn value_variants<'a>() -> &'a [Self] {
        const {
            &[
                Self(Role::Submit),
                Self(Role::Read),
                Self(Role::Work),
                Self(Role::Cancel),
                Self(Role::Admin),
                Self(Role::Audit),
            ]
        }
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        let help = match self.0 {
            Role::Unspecified => return None,
            Role::Submit => "submit jobs, and run them again",
            Role::Read => "read and follow jobs",
            Role::Work => "lease tasks, and report on them",
            Role::Cancel => "cancel and delete jobs",
            Role::Admin => {
                "make and revoke keys; with --all-tenants, also tenants, and pause drivers"
            }
            Role::Audit => "read the audit log",
        };
        Some(PossibleValue::new(text::role(self.0)).help(help))
    }
}

/// When a key ends.
#[derive(Clone, Copy, Debug)]
enum End {
    After(HumanDuration),
    At(Timestamp),
}

impl std::str::FromStr for End {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let after = text.parse().map(Self::After);
        after.or_else(|_: String| {
            let at = text.parse().map(Self::At);
            at.map_err(|_| {
                format!("'{text}' is neither a time to last, such as 90d, nor an instant, such as 2030-01-31T00:00:00Z")
            })
        })
    }
}

impl End {
    fn instant(self, now: Timestamp) -> Result<Timestamp, Failure> {
        match self {
            Self::At(end) => Ok(end),
            Self::After(time) => now
                .checked_add(time.0)
                .map_err(|_| Failure::usage(format!("--expires {time} goes beyond the calendar"))),
        }
    }
}

/// Does what a `key` command says.
pub async fn run(command: KeyCommand, out: &mut Output) -> Result<Exit, Failure> {
    match command {
        KeyCommand::Create(args) => create(args, out).await,
        KeyCommand::List {
            tenant,
            format,
            connect,
        } => list(tenant, &format, &connect, out).await,
        KeyCommand::Revoke {
            key,
            format,
            connect,
        } => {
            let server = connect.connect().await?;
            let request = RevokeKeyRequest { key_id: id(key) };
            let answer = server.answer(server.client.admin().revoke_key(request).await)?;
            let key = required(answer.key.as_ref(), "key")?;
            let done = format!(
                "key {} is revoked, and what was begun with it ends within 5s",
                text::one_line(&key.key_id)
            );
            out.done(&format, &answer, done)
        }
    }
}

/// The id of a key, of which all may have been given: the secret is nobody's business, nor the audit log's.
fn id(key: String) -> String {
    let parts = key
        .strip_prefix(PREFIX)
        .and_then(|rest| rest.split_once('_'));
    parts.map_or(key.clone(), |(id, _)| id.to_owned())
}

async fn create(args: CreateArgs, out: &mut Output) -> Result<Exit, Failure> {
    let CreateArgs {
        name,
        tenant,
        roles,
        drivers,
        all_tenants,
        expires,
        certificate,
        format,
        connect,
    } = args;
    let expires = expires.map(|end| end.instant(time::now())).transpose()?;
    let server = connect.connect().await?;
    let request = CreateKeyRequest {
        tenant,
        name,
        roles: roles.iter().map(|role| role.0.into()).collect(),
        drivers,
        all_tenants,
        expire_time: expires.map(time::to_message),
        certificate,
    };
    let answer = server.answer(server.client.admin().create_key(request).await)?;
    if format.output == Format::Json {
        out.line(json::pretty(&answer)?)?;
        return Ok(Exit::Success);
    }
    let CreateKeyResponse { key, secret } = answer;
    let key = required(key, "key")?;
    if secret.is_empty() {
        out.line(text::one_line(&key.key_id))?;
        out.note(render::keys::summary(&key));
        return Ok(Exit::Success);
    }
    // First, so that nothing can come between: it is lost if it is not printed now.
    out.line(text::one_line(&secret))?;
    out.note(render::keys::summary(&key));
    out.note(paint(
        FAINT,
        "it is not shown again; its holder sets LONGHAUL_API_KEY, or --api-key-file",
    ));
    Ok(Exit::Success)
}

async fn list(
    tenant: String,
    format: &FormatArgs,
    connect: &ConnectArgs,
    out: &mut Output,
) -> Result<Exit, Failure> {
    let server = connect.connect().await?;
    let mut request = ListKeysRequest {
        tenant,
        page_size: KEYS_PER_CALL,
        page_token: String::new(),
    };
    let mut pages = Pages::default();
    let mut printed = 0;
    loop {
        let page = server.client.admin().list_keys(request.clone()).await;
        let page = server.answer(page)?;
        match format.output {
            Format::Text if page.keys.is_empty() => {}
            Format::Text => out.lines(pages.lines(render::keys::rows(&page.keys, time::now())))?,
            Format::Json => out.lines(json::lines(&page.keys)?)?,
        }
        printed += page.keys.len();
        if page.next_page_token.is_empty() {
            if printed == 0 && format.output == Format::Text {
                out.note("no keys");
            }
            return Ok(Exit::Success);
        }
        request.page_token = page.next_page_token;
    }
}

/// Prints who the caller is.
pub async fn whoami(args: OverviewArgs, out: &mut Output) -> Result<Exit, Failure> {
    let server = args.connect.connect().await?;
    let answer = server.answer(server.client.admin().get_caller(GetCallerRequest {}).await)?;
    out.answer(&args.format, &answer, render::keys::caller(&answer))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_a_time_to_last_or_an_instant() {
        let now = Timestamp::from_second(0).unwrap();
        let end = |text: &str| text.parse::<End>().unwrap().instant(now).unwrap();
        assert_eq!(end("90d").as_second(), 90 * 86_400);
        assert_eq!(
            end("2030-01-31T00:00:00Z").to_string(),
            "2030-01-31T00:00:00Z"
        );
        let error = "tomorrow".parse::<End>().unwrap_err();
        assert!(error.contains("90d") && error.contains("2030"), "{error}");
        let beyond = "999999d".parse::<End>().unwrap();
        assert!(beyond.instant(Timestamp::MAX).is_err());
    }

    #[test]
    fn of_a_whole_key_only_the_id_is_sent() {
        for (given, id) in [
            ("lh_0a1b_s3cret", "0a1b"),
            ("0a1b", "0a1b"),
            ("cert:spiffe://a/lh_b_c", "cert:spiffe://a/lh_b_c"),
        ] {
            assert_eq!(super::id(given.to_owned()), id);
        }
    }

    #[test]
    fn every_role_of_the_contract_can_be_named() {
        let known = RoleName::value_variants().iter().map(|name| name.0);
        let all = (1..).map_while(|number| Role::try_from(number).ok());
        assert!(known.eq(all));
    }
}
