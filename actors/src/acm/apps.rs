//! Applications as their home knows them, for members that show them too.

use bincode::{Decode, Encode};
use codeco_protocol::ids::{AppUid, MemberId, NodeName, ServiceName};
use codeco_protocol::messages::RunPhase;
use codeco_protocol::token::Token;
use codeco_protocol::wire::{self, WireMessage};

use crate::fabric::{InspectRequest, inspect};
use crate::swm::home::{App, AppRecords, Home, HomeRecord};

/// Size at which a page ends.
const PAGE_BYTES: usize = 768 << 10;
/// Most pages read of one home.
const PAGES_MAX: usize = 64;

/// What a home last heard of a copy: service, index, generation, node, token, and how it fares.
pub type Heard = (ServiceName, u32, u64, NodeName, Token, RunPhase);

/// An application as its home has it: its records, and what was last heard of its copies.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub struct AppPage {
    /// Which.
    pub uid: AppUid,
    /// The records that stand for it.
    pub records: Vec<HomeRecord>,
    /// What was last heard of its copies.
    pub heard: Vec<Heard>,
    /// Other members that have its present specification on disk.
    pub keepers: Vec<MemberId>,
}

/// Some applications of a home, by uid.
#[derive(Debug, Clone, PartialEq, Default, Encode, Decode)]
pub struct AppPages {
    /// The applications.
    pub apps: Vec<AppPage>,
    /// Whether there are more after the last.
    pub more: bool,
}

impl WireMessage for AppPages {
    const KIND: u16 = 66;
    const MAX_LEN: usize = 1 << 20;
}

/// The applications of `home`, and those it keeps copies of, after `after`, as many as fit one answer.
#[must_use]
pub fn page(home: &Home, after: Option<AppUid>) -> AppPages {
    let mut pages = AppPages::default();
    let mut size = 0;
    let own = home.apps().map(|(uid, _)| uid);
    let mut uids: Vec<AppUid> = own.chain(home.copies().map(|(uid, _)| uid)).collect();
    uids.sort_unstable();
    uids.dedup();
    for uid in uids.into_iter().filter(|uid| after.is_none_or(|after| *uid > after)) {
        let own = home.apps().find(|(known, _)| *known == uid).map(|(_, app)| AppPage {
            uid,
            records: home.records_of(uid),
            heard: app.heard(),
            keepers: app.keepers().collect(),
        });
        let copy = || {
            let (_, copy) = home.copies().find(|(known, _)| *known == uid)?;
            let AppRecords(records) = wire::decode(&copy.records).ok()?;
            Some(AppPage { uid, records, heard: Vec::new(), keepers: Vec::new() })
        };
        let Some(page) = own.or_else(copy) else { continue };
        let one = AppPages { apps: vec![page], more: false };
        // One that is too large for an answer of its own cannot be told at all.
        let Ok(bytes) = wire::encode(&one) else { continue };
        if !pages.apps.is_empty() && size + bytes.len() > PAGE_BYTES {
            pages.more = true;
            break;
        }
        size += bytes.len();
        pages.apps.extend(one.apps);
    }
    pages
}

impl AppPage {
    /// The application; `None` if the records are not one's.
    #[must_use]
    pub fn app(&self) -> Option<App> {
        let mut app = Home::app_of(self.uid, &self.records, &self.heard)?;
        app.set_keepers(&self.keepers);
        Some(app)
    }
}

/// Asks a home for all its applications.
///
/// # Errors
/// Why it could not be asked, for people.
pub async fn ask_apps(
    link: &codeco_protocol::transport::PeerConnection,
) -> Result<Vec<(AppUid, App)>, String> {
    let mut found = Vec::new();
    let mut after = None;
    for _ in 0..PAGES_MAX {
        let answer = inspect(link, &InspectRequest::Apps(after)).await.map_err(|e| e.to_string())?;
        let pages: AppPages = wire::decode(&answer).map_err(|e| format!("its answer cannot be read: {e}"))?;
        let last = pages.apps.last().map(|page| page.uid);
        found.extend(pages.apps.iter().filter_map(|page| Some((page.uid, page.app()?))));
        if !pages.more || last.is_none() || last <= after {
            break;
        }
        after = last;
    }
    Ok(found)
}
