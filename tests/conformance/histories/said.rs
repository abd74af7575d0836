//! What workers say in a history.

use longhaul::domain::{Document, command::Report, task::Progress};
use proptest::prelude::*;

#[derive(Clone, Debug)]
pub enum Said {
    Heartbeat,
    Progress(i64),
    Warning,
    Success(usize),
    Failure(bool),
    Release,
    CancelAcknowledged,
    Cancelled,
}

pub fn said() -> impl Strategy<Value = Said> {
    prop_oneof![
        Just(Said::Heartbeat),
        (0..9i64).prop_map(Said::Progress),
        Just(Said::Warning),
        prop_oneof![Just(0), Just(20), Just(3_000)].prop_map(Said::Success),
        any::<bool>().prop_map(Said::Failure),
        Just(Said::Release),
        Just(Said::CancelAcknowledged),
        Just(Said::Cancelled),
    ]
}

impl Said {
    pub fn report(self) -> Report {
        let status_detail = String::new();
        match self {
            Self::Heartbeat => Report::Heartbeat,
            Self::Progress(done) => Report::Progress {
                progress: Some(Progress {
                    done,
                    ..Progress::default()
                }),
                status_detail,
            },
            Self::Warning => Report::Warning {
                message: "slow".into(),
            },
            Self::Success(bytes) => Report::Success {
                result: (bytes > 0).then(|| Document(vec![b'r'; bytes].into())),
                status_detail,
            },
            Self::Failure(permanent) => Report::Failure {
                message: "no route".into(),
                reason: String::new(),
                permanent,
                retry_after: None,
                status_detail,
            },
            Self::Release => Report::Release {
                reason: "going home".into(),
            },
            Self::CancelAcknowledged => Report::CancelAcknowledged,
            Self::Cancelled => Report::Cancelled { status_detail },
        }
    }
}
