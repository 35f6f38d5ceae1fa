//! `embedded`: maintenance of the S3 server that runs in the process of the service.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use embedded_s3::Rebuilt;
use serde_json::json;

use crate::config::{Config, StoreKind};

/// Arguments of `embedded`.
#[derive(Debug, Args)]
pub struct EmbeddedArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Rebuild the index from the stored objects, after it was lost or replaced by an older copy.
    ///
    /// Stop the service first. Without --data, the command rebuilds each store of kind "embedded"
    /// in the configuration. If there is none, it rebuilds the store of `dev` in ./data.
    Rebuild {
        /// The data folder of `dev`.
        #[arg(long, value_name = "DIR")]
        data: Option<PathBuf>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

/// Runs the subcommand.
pub async fn run(file: Option<&Path>, args: &EmbeddedArgs) -> anyhow::Result<ExitCode> {
    let config = Config::load(file)?;
    let _log = super::start_log(&config)?;
    let Action::Rebuild { data, json } = &args.action;
    for folder in folders(&config, data.as_deref()) {
        let rebuilt = embedded_s3::rebuild(&folder)
            .await
            .with_context(|| format!("cannot rebuild the index in {}", folder.display()))?;
        if *json {
            println!("{}", to_json(&folder, &rebuilt));
        } else {
            print(&folder, &rebuilt);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn folders(config: &Config, data: Option<&Path>) -> Vec<PathBuf> {
    if let Some(data) = data {
        return vec![data.join("s3")];
    }
    let stores = config.storage.values().filter(|store| store.kind == StoreKind::Embedded);
    let folders: Vec<PathBuf> = stores.map(|store| store.data_dir.clone()).collect();
    if folders.is_empty() { vec![Path::new("data").join("s3")] } else { folders }
}

fn to_json(folder: &Path, rebuilt: &Rebuilt) -> serde_json::Value {
    let Rebuilt { restored, unchanged, dropped, damaged_index, not_restored } = rebuilt;
    let files = not_restored.iter().map(|file| json!({"path": file.path, "reason": file.reason}));
    json!({
        "data_dir": folder,
        "restored": restored,
        "unchanged": unchanged,
        "dropped": dropped,
        "damaged_index": damaged_index,
        "not_restored": files.collect::<Vec<_>>(),
    })
}

fn print(folder: &Path, rebuilt: &Rebuilt) {
    let Rebuilt { restored, unchanged, dropped, damaged_index, not_restored } = rebuilt;
    println!("{}", folder.display());
    println!("  restored      {restored} objects that were not in the index");
    println!("  unchanged     {unchanged} objects and parts");
    println!("  dropped       {dropped} rows whose object is missing");
    println!("  not restored  {} files in quarantine", not_restored.len());
    if let Some(path) = damaged_index {
        println!("The old index was damaged. It is now {}", path.display());
    }
    for file in not_restored {
        println!("{}: {}", file.path.display(), file.reason);
    }
}
