//! The scheduler as its driver sees it: rules one by one, and a model under any sequence of facts.

mod background;
mod checks;
mod driver;
mod halts;
mod hedges;
mod lines;
mod model;
mod origin;
mod ranks;
mod reading;
mod rules;
mod scenes;
mod sharing;
mod stripes;
mod successors;
mod yielding;
