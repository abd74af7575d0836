//! The messages of `WatchJob`.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use futures_util::{Stream, StreamExt as _};
use tonic::Status;

use super::{error::status, frame::WatchFrame};
use crate::{
    api::{JobWatchStream, View},
    engine::WatchItem,
    locale::Language,
    proto::v1::{self, watch_job_response::Kind},
};

/// The stream of `WatchJob`.
pub struct WatchJobFrames {
    watch: JobWatchStream,
    language: Language,
}

impl WatchJobFrames {
    pub(super) fn new(watch: JobWatchStream, language: Language) -> Self {
        Self { watch, language }
    }
}

impl Stream for WatchJobFrames {
    type Item = Result<WatchFrame, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let (view, language) = (self.watch.view, self.language);
        let item = self.watch.poll_next_unpin(cx);
        item.map(|item| {
            item.map(|item| match item {
                Ok(item) => Ok(frame(item, view)),
                Err(fault) => Err(status(&fault, language)),
            })
        })
    }
}

fn frame(item: WatchItem, view: View) -> WatchFrame {
    let bare = |kind: Kind, revision| {
        WatchFrame::bare(v1::WatchJobResponse {
            kind: kind.into(),
            from_revision: revision,
            revision,
            ..v1::WatchJobResponse::default()
        })
    };
    match item {
        WatchItem::Snapshot {
            version,
            from_revision,
            coalesced,
            is_final,
            reset,
        } => {
            let head = v1::WatchJobResponse {
                job: None,
                kind: Kind::Snapshot.into(),
                from_revision,
                revision: version.job.revision,
                coalesced,
                r#final: is_final,
                reset,
            };
            WatchFrame::snapshot(head, &version, view)
        }
        WatchItem::Synced { revision } => bare(Kind::Synced, revision),
        WatchItem::Heartbeat { revision } => bare(Kind::Heartbeat, revision),
        WatchItem::Draining { revision } => bare(Kind::Draining, revision),
    }
}
