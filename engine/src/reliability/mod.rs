//! The reliability of each annotator, learned while they work, and how much an item's labels are
//! worth given that.
//!
//! [`ReliabilityModel`] observes labels one by one, including those of open items, and provides at
//! any time:
//!
//! - [`posterior_of`](ReliabilityModel::posterior_of): how probable each answer is, given labels.
//!   The result is an [`Evidence`]: a prior and one vector for each label, from which the
//!   [`Posterior`] can be recomputed.
//! - [`reliability`](ReliabilityModel::reliability): how often an annotator is right on an item of
//!   average difficulty, with its uncertainty.
//! - [`weight`](ReliabilityModel::weight): the weight of an annotator's vote.
//! - [`posterior`](ReliabilityModel::posterior) and [`difficulty`](ReliabilityModel::difficulty): an
//!   item as known now, also long after its decision.
//! - [`survey`](ReliabilityModel::survey): all annotators, also of late and for changes;
//!   [`confusion`](ReliabilityModel::confusion) and
//!   [`suspicious_pairs`](ReliabilityModel::suspicious_pairs) for reports.
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
//! *z*. Those shrink to somebody who knows the answer with probability *t* and otherwise guesses,
//! four times in five by how frequent classes are, else evenly:
//!
//! ```text
//! m_zz = t + (1 - t) (0.2 / J + 0.8 p_z)
//! ```
//!
//! So rare classes are expected to be missed more often than frequent ones (Wolfe et al. 2005); of
//! equally frequent classes *m_zz* = *a* = 1/J + (1 - 1/J) *t*. In a quarter of the models below,
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
//! **A common cause.** A share *s* of all items is of a kind where half of the labels follow a cause
//! of their own. The cause names class *c* with the frequency of *c*, whatever the truth is:
//!
//! ```text
//! P(l | z, no cause) = h(l | z)                   the average of the models
//! P(l | z, cause c)  = [l = c] / 2 + h(l | z) / 2
//! ```
//!
//! The share is learned from all items: *s* = 0.03, 0.1 and 0.25 are averaged by how probable they
//! make the labels, starting from 0.9, 0.08 and 0.02. This enters only the posterior, not the
//! counts. It keeps a few agreeing labels from becoming a certainty. It may take away what a label
//! says and never turns it round: where *h* is at least as large in class *l* as in *z*, so is the
//! likelihood recorded. Hence a further label of a class by somebody better than chance never lowers
//! the probability of that class.
//!
//! **Groups.** The labels of annotators whose errors go together (models of one family, pupils of
//! one teacher) are drawn from an urn. After *n* labels of the group on the item, *c* of them equal
//! to *l*, the next one is *l* with probability
//!
//! ```text
//! ((1 - r) h(l | z) + r c) / (1 - r + r n)
//! ```
//!
//! (a Pólya urn; for two classes the beta-binomial distribution of Williams 1975). The correlation
//! *r* of their errors is 0 for independent people and 1 for copies. It is averaged over a grid,
//! weighted by how probable each value makes the labels of items that have two more labels by
//! others, or gold; before that it is 0.97. In an [`Evidence`], *n* labels of a group are worth
//! *n* / (1 + (*n* - 1) *r*) votes (the design effect of Kish 1965).
//!
//! **Difficulty.** Who is asked late, or sent the contested items, sees harder items than others.
//! So [`reliability`](ReliabilityModel::reliability) comes from a model beside the twenty: an item
//! is easy, half hard or hard (*d* = 0, 0.5, 0.9; after Whitehill et al. 2009), and there a label is
//! a guess with probability *d*:
//!
//! ```text
//! P(l | z, d, k) = (1 - d) e_kzl + d / J
//! accuracy of k  = sum over d of P(d) ( (1 - d) sum over z of p_z e_kzz + d / J )
//! ```
//!
//! *P(d)*, *p_z* and the crowd's *e* are fitted by expectation maximisation with each refit. The
//! posterior of *e_kzz* of one annotator is computed on a grid from the product over their labels of
//! the probability of each label, summed over what everybody else's labels leave open about *z* and
//! *d*: no label counts as surely right or wrong. Since what is known about the others is uncertain
//! too, a label on an item without gold counts 0.72 in that product. Rates by class are averaged
//! with one coin for all classes, by the weights of the twenty models. The interval is that of the
//! beta distribution with the same mean and variance. Difficulty does not enter decisions: there it
//! asked for twice as many labels.
//!
//! **Fading and change.** With a half-life, a label counts half as much in that product as one of
//! the same annotator so many labels later. A change is reported where two rates of an annotator,
//! before and after, make the labels more probable than one by exp(5) times the square root of the
//! number of places tried (a likelihood ratio; Page 1955). Neither enters decisions.
//!
//! **Suspicious pairs.** Two annotators who are in no group together are tried as one: with the urn
//! above and each correlation of its grid, on all items that both labelled, given everybody else's
//! labels. They are named where the best correlation makes their labels more probable than none by
//! exp(5) times the number of pairs tried.
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
//! Except for the common cause and within groups, annotators are independent given the class. If
//! many items mislead everyone alike, the posterior is overconfident; no model of annotators alone
//! can detect that, but gold can. Classes are exchangeable in likelihood: that most annotators are
//! better than chance is assumed, not learned. So a crowd with as many adversaries as honest people
//! needs gold. How strongly a group's errors go together can be told only from items with labels by
//! others.
//!
//! # Cost
//!
//! With *L* labels on the item and *J* classes, a label costs 40 L (J + 1) multiplications, some
//! microseconds. A refit begins when the labels have grown by a tenth of those within reach. It
//! visits all items within reach in slices: one observation re-evaluates at most 4,000 items, some
//! milliseconds. Where a refit is does depend on the observations alone, so a model rebuilt from
//! them is the same to the last bit. Older closed items stay in the counts permanently with their
//! last values.
//!
//! Within reach are the [`ITEMS_MAX`] newest items (20,000 / J beyond two classes, at least 1,000)
//! and all open ones. Memory is 20 J numbers for each of them and 15 J (J + 1) for each annotator,
//! of whom [`ANNOTATORS_MAX`] are told apart. Beyond [`CONFUSION_CLASSES_MAX`] classes, confusion
//! matrices are omitted; beyond [`CLASSES_MAX`], labels are rejected.
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
//! - Kish, L. (1965). *Survey Sampling*. Wiley.
//! - Page, E. S. (1955). A test for a change in a parameter occurring at an unknown point.
//!   *Biometrika* 42, 523-527.
//! - Whitehill, J. et al. (2009). Whose vote should count more: optimal integration of labels from
//!   labelers of unknown expertise. *NIPS* 22.
//! - Williams, D. A. (1975). The analysis of binary responses from toxicological experiments
//!   involving reproduction and teratogenicity. *Biometrics* 31, 949-952.
//! - Wolfe, J. M., Horowitz, T. S. and Kenner, N. M. (2005). Rare items often missed in visual
//!   searches. *Nature* 435, 439-440.
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
mod cursor;
mod decide;
mod error;
mod estimate;
mod evidence;
mod expert;
mod fair;
mod group;
mod look;
mod model;
mod pairs;
mod refit;
pub mod simulation;
mod survey;

pub use class::{ClassError, class_of, value_of};
pub use error::ReliabilityError;
pub use estimate::Reliability;
pub use evidence::{Evidence, Label, LabelEvidence, Posterior};
pub use expert::CONFUSION_CLASSES_MAX;
pub use group::GroupEvidence;
pub use model::{ANNOTATORS_MAX, CLASSES_MAX, Classes, ITEMS_MAX, ReliabilityModel, judge_name};
pub use pairs::SuspiciousPair;
pub use survey::{AnnotatorNow, Change, ClassAgreement, Survey};
