//! Listing many jobs.

use anyhow::ensure;
use clap::Args;
use nettailor_proto::v1;
use serde::Serialize;

use crate::ambient::now;
use crate::samples::{Quantiles, Samples};
use crate::site::Site;

/// Settings.
#[derive(Debug, Clone, Copy, Args)]
pub struct List {
    /// Jobs
    #[arg(long, default_value_t = 12_500)]
    pub jobs: usize,
    /// How often they are listed
    #[arg(long, default_value_t = 20)]
    pub repetitions: usize,
}

/// Figures.
#[derive(Debug, Serialize)]
pub struct Listed {
    /// As asked for.
    pub jobs: usize,
    /// Pages that they take, of the server's largest size.
    pub pages: usize,
    /// Until the first page was there.
    pub first_page: Quantiles,
    /// Until all were, one after the other.
    pub all_pages: Quantiles,
}

/// Measures it.
///
/// # Errors
/// Where the coordinator does not do its part.
pub async fn list(site: &Site, asked: List) -> anyhow::Result<Listed> {
    site.fill(asked.jobs, 1).await?;
    let (mut first_page, mut all_pages) = (Samples::default(), Samples::default());
    let mut pages = 0;
    for _ in 0..asked.repetitions {
        let begun = now();
        let mut request = v1::ListJobsRequest::default();
        let mut found = 0;
        pages = 0;
        loop {
            let page = site.jobs().list(request.clone()).await?.into_inner();
            if pages == 0 {
                first_page.add(begun.elapsed());
            }
            pages += 1;
            found += page.jobs.len();
            if page.next_page_token.is_empty() {
                break;
            }
            request.page_token = page.next_page_token;
        }
        all_pages.add(begun.elapsed());
        ensure!(found == asked.jobs, "{found} jobs are listed of {}", asked.jobs);
    }
    Ok(Listed {
        jobs: asked.jobs,
        pages,
        first_page: first_page.quantiles(),
        all_pages: all_pages.quantiles(),
    })
}
