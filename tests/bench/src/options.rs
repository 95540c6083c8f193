//! What a run is given: what to measure, how often, and where the things to measure are.

use std::path::PathBuf;

use ballast_machines::given::Given;
use clap::{Args, ValueEnum};

/// Paths that the flake sets in the environment and a developer gives as options, beside the driver's own.
#[derive(Args, Debug, Clone)]
pub struct Options {
    #[command(flatten)]
    pub given: Given,
    /// The image's spec.json
    #[arg(long, env = "BALLAST_SPEC", value_name = "FILE")]
    pub spec: Option<PathBuf>,
    /// The image's packages: a JSON list of name, version, architecture and path of a .deb
    #[arg(long, env = "BALLAST_PACKAGES", value_name = "FILE")]
    pub packages: Option<PathBuf>,
    /// The assembler
    #[arg(long, env = "BALLAST_ASSEMBLE", value_name = "PROGRAM")]
    pub assemble: Option<PathBuf>,
    /// Directory of the programs the assembler calls; without it, the `PATH`
    #[arg(long, env = "BALLAST_ASSEMBLING_TOOLS", value_name = "DIR")]
    pub assembling_tools: Option<PathBuf>,
    /// Directory of glibc's character sets, for those programs
    #[arg(long, env = "BALLAST_CHARSETS", value_name = "DIR")]
    pub charsets: Option<PathBuf>,
    /// The agent
    #[arg(long, env = "BALLAST_AGENT", value_name = "PROGRAM")]
    pub agent: Option<PathBuf>,
    /// The initrd's program
    #[arg(long, env = "BALLAST_INIT", value_name = "PROGRAM")]
    pub init: Option<PathBuf>,
    /// Tree of unpacked packages that holds mmdebstrap and what makes file systems
    #[arg(long, env = "BALLAST_STOCK_TOOLS", value_name = "TREE")]
    pub stock_tools: Option<PathBuf>,
    /// The stock image's packages, in the form of --packages
    #[arg(long, env = "BALLAST_STOCK_PACKAGES", value_name = "FILE")]
    pub stock_packages: Option<PathBuf>,
    /// The fault suite
    #[arg(long, env = "BALLAST_FAULTS", value_name = "PROGRAM")]
    pub faults: Option<PathBuf>,
    /// The flake that is evaluated, as Nix is told of it
    #[arg(long, env = "BALLAST_FLAKE", value_name = "FLAKE", default_value = ".")]
    pub flake: String,
    /// The image of that flake
    #[arg(long, value_name = "NAME", default_value = "consul-server")]
    pub image_name: String,
    /// Measure only this; may be given several times
    #[arg(long, value_enum, value_name = "NAME")]
    pub only: Vec<Name>,
    /// Write everything that was measured to this file
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// How often each time is taken
    #[arg(long, default_value_t = 3, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
    pub runs: u32,
    /// How long the agent is watched doing nothing
    #[arg(long, default_value_t = 10, value_name = "MINUTES", value_parser = clap::value_parser!(u32).range(1..=1440))]
    pub idle_minutes: u32,
    /// How often each loss is tried
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
    pub losses: u32,
    /// The availabilities whose losses are measured
    #[arg(long, value_enum, value_name = "NAME", value_delimiter = ',', default_values_t = [Preset::Fast, Preset::Normal, Preset::Wide])]
    pub presets: Vec<Preset>,
}

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Name {
    /// Time from .debs to image, beside mmdebstrap and mkfs
    Assembling,
    /// Sizes of images and what is in them
    Sizes,
    /// Sizes of our programs
    Programs,
    /// Time the flake takes to evaluate
    Evaluation,
    /// Time from power-on to `passing`, by phase
    Boot,
    /// Memory and processor time of the idle agent
    Idle,
    /// Time without a write after each kind of loss, beside the programs' own timings
    Losses,
}

/// An availability whose losses are measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Preset {
    /// Quiet machines near each other.
    Fast,
    /// What an operator gets who says nothing.
    Normal,
    /// Far apart, or heavily loaded.
    Wide,
}

impl Preset {
    /// As it is written in a cluster file.
    pub fn word(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}

impl Name {
    /// As it is written on the command line.
    pub fn word(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}
