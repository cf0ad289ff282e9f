//! The real ARC where the environment names it, else the model: scenarios do not know which.

use std::sync::Arc;

use super::driver::{Modelled, ModelledSet};
use super::model::Generation;
use super::real::{Installed, Real, ScaleSet};
use super::under_test::{Asked, IsSetUp, Runs, Tuning, UnderTest};
use crate::actions_service::ActionsService;
use crate::bed::ControlPlane;

/// Says which ARC the model is of.
const MODEL: &str = "HEADSTART_ARC_MODEL";

/// ARC.
pub enum Either<'c> {
    /// The programs themselves.
    Real(Installed<'c>),
    /// The model.
    Model(Modelled<'c>),
}

/// A scale set of it.
pub enum EitherSet<'c> {
    /// Of the real one.
    Real(ScaleSet<'c>),
    /// Of the model.
    Model(ModelledSet),
}

impl<'c> Either<'c> {
    /// Installs it; once per cluster.
    pub async fn install(control_plane: &ControlPlane) {
        match Real::from_environment() {
            Some(real) => Installed::install(control_plane, &real).await,
            None => Modelled::install(control_plane).await,
        }
    }

    /// Where it is installed.
    pub async fn there(control_plane: &'c ControlPlane, service: &Arc<ActionsService>) -> Self {
        match Real::from_environment() {
            Some(real) => Self::Real(Installed::there(control_plane, &real).await),
            None => {
                let which = std::env::var(MODEL).unwrap_or_default();
                let generation = generation(&which).unwrap_or_else(|why| panic!("{why}"));
                Self::Model(Modelled::there(control_plane, service, generation).await)
            }
        }
    }
}

/// Of which ARC the model is.
fn generation(which: &str) -> Result<Generation, String> {
    match which {
        "" | "release" => Ok(Generation::Release),
        "master" => Ok(Generation::Master),
        other => Err(format!("{MODEL} is {other}: set it to release or master")),
    }
}

impl<'c> UnderTest for Either<'c> {
    type Manager = Box<dyn Runs + 'c>;
    type ScaleSet = EitherSet<'c>;

    fn name(&self) -> &'static str {
        match self {
            Self::Real(real) => real.name(),
            Self::Model(model) => model.name(),
        }
    }

    fn manager(&self, tuning: Tuning) -> Box<dyn Runs + 'c> {
        match self {
            Self::Real(real) => Box::new(real.manager(tuning)),
            Self::Model(model) => Box::new(model.manager(tuning)),
        }
    }

    async fn scale_set(&self, asked: &Asked<'_>) -> EitherSet<'c> {
        match self {
            Self::Real(real) => EitherSet::Real(real.scale_set(asked).await),
            Self::Model(model) => EitherSet::Model(model.scale_set(asked).await),
        }
    }
}

impl Runs for Box<dyn Runs + '_> {
    fn crash(&self) {
        (**self).crash();
    }

    fn kill(&self) {
        (**self).kill();
    }

    fn start_again(&self) {
        (**self).start_again();
    }

    fn log(&self) -> String {
        (**self).log()
    }

    fn process(&self) -> Option<u32> {
        (**self).process()
    }
}

impl IsSetUp for EitherSet<'_> {
    fn runner_set(&self) -> &str {
        match self {
            Self::Real(set) => set.runner_set(),
            Self::Model(set) => set.runner_set(),
        }
    }

    fn listener(&self) -> &dyn Runs {
        match self {
            Self::Real(set) => set.listener(),
            Self::Model(set) => set.listener(),
        }
    }

    async fn listen_anew(&mut self) {
        match self {
            Self::Real(set) => set.listen_anew().await,
            Self::Model(set) => set.listen_anew().await,
        }
    }

    async fn delete(self) {
        match self {
            Self::Real(set) => set.delete().await,
            Self::Model(set) => set.delete().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_model_is_of_releases_unless_it_is_said() {
        assert_eq!(
            [generation(""), generation("release")],
            [Ok(Generation::Release), Ok(Generation::Release)]
        );
        assert_eq!(generation("master"), Ok(Generation::Master));
        assert!(generation("Master").unwrap_err().contains("release or master"));
    }
}
