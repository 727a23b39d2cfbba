//! The reliability of each annotator, learned while they work, and how much an item's labels are
//! worth given that.
//!
//! [`ReliabilityModel`] observes labels one by one, including those of open items, and provides at
//! any time:
//!
//! - [`posterior_of`](ReliabilityModel::posterior_of): how probable each answer is, given labels.
//!   The result is an [`Evidence`]: a prior and one vector for each label, from which the
//!   [`Posterior`] can be recomputed.
//! - [`reliability`](ReliabilityModel::reliability): how often an annotator is right, with its
//!   uncertainty.
//! - [`weight`](ReliabilityModel::weight): the weight of an annotator's vote.
//!
//! # The model
//!
//! Item *i* has a true class *z_i*, of frequency *p_z*. Annotator *k* labels an item of class *z*
//! as *l* with probability *e_kzl* (Dawid and Skene 1979). All of these are unknown. None is
//! estimated by a single number, because a model that trusts its own point estimates learns from
//! its own mistakes. Instead, the model uses the following.
//!
//! **Predictive probabilities.** Every unknown rate is integrated out. Rows of *e* have Dirichlet
//! priors (Raykar et al. 2010; Kim and Ghahramani 2012) with mean *m_zl* and strength *s*. With
//! *n_kzl* the expected counts *over all other items*, the probability that enters the posterior is
//!
//! ```text
//! P(l | z, k)  =  (n_kzl + s m_zl) / (n_kz + s)
//! P(z)         =  (N_z + 2) / (N + 2 J)
//! P(z_i = z)   proportional to  P(z)  product over the labels (k, l) of item i of  P(l | z, k)
//! ```
//!
//! An item is left out of its own counts, so a decision cannot confirm itself. These equations,
//! solved for all items together, are collapsed variational Bayes of order zero (Teh et al. 2007;
//! Asuncion et al. 2009; for crowds Simpson et al. 2013). Each label takes one step of them for its
//! item; [`refit`](ReliabilityModel::refit) takes four for all items.
//!
//! **Shrinkage in three steps.** An annotator's own confusion matrix shrinks to the errors that all
//! annotators share: which wrong class (*m_zl* for *l* ≠ *z*) follows the pooled errors in class
//! *z*. Those shrink to one coin: *m_zz* = *a* for all classes. In a quarter of the models below,
//! annotators are one coin throughout (beta distribution of mean *a*, strength 12).
//!
//! **Model averaging.** How good the crowd is (*a*) and how alike its members are (*s*) is also
//! unknown, above all in the beginning. Twenty models run side by side: *a* = 1/J + (1 - 1/J) *t*
//! for *t* = 0.2, 0.4, 0.6, 0.8, 0.92, each as one coin, and with confusion matrices of strengths
//! *s* = 2, 4 and 12.
//!
//! Their posteriors are averaged by how well each model predicted the labels, one after another,
//! before they were known (Dawid 1984). With *q_m* the product of the probabilities that model *m*
//! gave them, its weight is proportional to the square root of *q_m*. Bayes' rule would take *q_m*
//! itself; but all models assume that annotators err independently, so the labels hold less
//! evidence than the models assume (Grünwald 2012).
//!
//! In a young model all twenty contribute. If good and bad crowds explain the labels equally well,
//! the average is uncertain, so no cold start needs to be scheduled. On labels that only confusion
//! matrices explain, the one-coin models lose their weight.
//!
//! **A common cause.** One item in fifty is expected to be of a kind where labels follow each other
//! rather than the truth. There, label *t* is *l* with probability (*c* + 1 + [*l* = *z*] / 2) /
//! (*t* - 1 + J + 1/2), where *c* of the earlier labels are *l* (a Pólya urn). This enters only the
//! posterior, not the counts, and keeps a few agreeing labels from becoming a certainty.
//!
//! Gold items have a known class. Their labels count fully for the annotators and for the weights
//! of the models. They do not count for the class frequencies, because gold is chosen, not drawn.
//!
//! An open set of classes consists of the classes seen so far and one unseen class. The unseen
//! class has the prior of a class without items. On an item of the unseen class every label is
//! wrong, with every seen class equally likely.
//!
//! # Limits
//!
//! Except for the common cause, annotators are independent given the class. If many items mislead
//! everyone alike, the posterior is overconfident; no model of annotators alone can detect that,
//! but gold can. Classes are exchangeable in likelihood: that most annotators are better than
//! chance is assumed, not learned. So a crowd with as many adversaries as honest people needs gold.
//!
//! # Cost
//!
//! With *L* labels on the item and *J* classes, a label costs 20 L (J + 1) multiplications, some
//! microseconds. A refit visits the [`ITEMS_MAX`] newest items. It runs when the labels have grown
//! by a tenth of those within reach, so its cost per label is constant. Older closed items stay in
//! the counts permanently with their last values.
//!
//! Memory is 20 J numbers for each item within reach and 15 J (J + 1) for each annotator. Beyond
//! [`CONFUSION_CLASSES_MAX`] classes, confusion matrices are omitted; beyond [`CLASSES_MAX`],
//! labels are rejected.
//!
//! # Citations
//!
//! - Dawid, A. P. and Skene, A. M. (1979). Maximum likelihood estimation of observer error-rates
//!   using the EM algorithm. *Applied Statistics* 28(1), 20-28.
//! - Dawid, A. P. (1984). Statistical theory: the prequential approach. *Journal of the Royal
//!   Statistical Society A* 147(2), 278-292.
//! - Teh, Y. W., Newman, D. and Welling, M. (2007). A collapsed variational Bayesian inference
//!   algorithm for latent Dirichlet allocation. *NIPS* 19. Asuncion, A. et al. (2009). On smoothing
//!   and inference for topic models. *UAI*.
//! - Grünwald, P. (2012). The safe Bayesian: learning the learning rate via the mixability gap.
//!   *ALT*, 169-183.
//! - Raykar, V. C. et al. (2010). Learning from crowds. *Journal of Machine Learning Research* 11,
//!   1297-1322.
//! - Kim, H.-C. and Ghahramani, Z. (2012). Bayesian classifier combination. *AISTATS*, PMLR 22,
//!   619-627.
//! - Simpson, E. et al. (2013). Dynamic Bayesian combination of multiple imperfect classifiers.
//!   *Decision Making and Imperfection*, Springer, 1-35.
//!
//! # Examples
//!
//! ```
//! use glyph_workflow_engine::reliability::{Classes, ReliabilityModel};
//!
//! let mut model = ReliabilityModel::new(Classes::Open)?;
//! for task in 0..40 {
//!     let (task, truth) = (format!("task {task}"), if task % 2 == 0 { "cat" } else { "dog" });
//!     for good in ["ada", "bob", "cem"] {
//!         model.observe(&task, good, truth)?;
//!     }
//!     model.observe(&task, "spammer", "cat")?;
//!     model.close(&task);
//! }
//! let two_good = model.posterior_of(&[("ada", "dog"), ("bob", "dog")])?.posterior();
//! assert_eq!(two_good.best.as_deref(), Some("dog"));
//! assert!(two_good.confidence > 0.95);
//! // The spammer says "cat" whatever it is; that moves nothing.
//! let split = model.posterior_of(&[("ada", "dog"), ("spammer", "cat")])?.posterior();
//! assert_eq!(split.best.as_deref(), Some("dog"));
//! assert!(model.weight("ada") > 3.0 * model.weight("spammer"));
//! # Ok::<(), glyph_workflow_engine::reliability::ReliabilityError>(())
//! ```

mod cause;
mod checkpoint;
mod class;
mod decide;
mod error;
mod estimate;
mod evidence;
mod expert;
mod fair;
mod group;
mod look;
mod model;
mod refit;
pub mod simulation;

pub use class::{ClassError, class_of, value_of};
pub use error::ReliabilityError;
pub use estimate::Reliability;
pub use evidence::{Evidence, Label, LabelEvidence, Posterior, Targets};
pub use group::GroupEvidence;
pub use look::{Change, ClassAgreement, ItemNow, SuspiciousPair};
pub use model::{CLASSES_MAX, CONFUSION_CLASSES_MAX, Classes, ITEMS_MAX, ReliabilityModel};
