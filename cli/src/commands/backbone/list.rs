//! `backbone list`.

use crate::client::Client;
use crate::error::Error;
use crate::output::Console;
use crate::views::BackboneView;

pub(super) async fn run(client: &Client, console: &Console) -> Result<(), Error> {
    let backbones: Vec<BackboneView> = client
        .backbones()
        .await?
        .into_iter()
        .map(BackboneView::from)
        .collect();
    console.list(
        &backbones,
        "no backbones; `nettailor-cli backbone import FILE --arch ARCH` brings one",
    )
}
