"""The table of the attacks on single records, and how one of them becomes decisions.

Each scores the records of one model by its outputs and, most of them, by what other models say of the same records. Its
threshold is fitted on the shadows: each is attacked in turn, by comparison with the others except its own twin (the
shadow that trained on the other half, and so would give its membership away), and the best threshold for their known
members is applied to the target. The accuracies on the shadows also rank the attacks
(`nanoprune/lab/audit/attack_choice.py`).

A new attack is a file in `nanoprune/attack/shadow/` (in this folder where it needs layers of the laboratory) and a line
in `ATTACKS`.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable, Collection

import numpy as np

from nanoprune.attack.shadow.base import base_score
from nanoprune.attack.shadow.bavaria import bavaria_offline, bavaria_online
from nanoprune.attack.shadow.difficulty import calibrated
from nanoprune.attack.shadow.lira import lira_offline, lira_online
from nanoprune.attack.shadow.population import population_attack
from nanoprune.attack.shadow.versions import lira_versions
from nanoprune.attack.threshold import Thresholds
from nanoprune.errors import ArgumentError
from nanoprune.lab.audit import fitted_attacks as fitted
from nanoprune.lab.audit.features import MOST
from nanoprune.lab.audit.fitted_attacks import Formula
from nanoprune.lab.audit.prediction_attacks import Attacked
from nanoprune.lab.audit.views import Compared, Need, Views, others
from nanoprune.lab.statistics.units import units_of

Attack = Callable[[int, np.ndarray], np.ndarray]  # (model, the models to compare it with) -> scores (n,)
NETWORK, ALL = "network", "all"  # the attack network of `prediction_attacks.py` may be chosen, too


@dataclasses.dataclass(frozen=True)
class RecordAttack:
    """A line of the table: prepare(views) fits what the attack learns, and returns its formula. costly: it is made only
    where it is named, neither by its family nor by "all"."""

    name: str
    needs: tuple[Need, ...]
    prepare: Callable[[Views], Formula]
    costly: bool = False

    @property
    def family(self) -> str:
        """The name up to its first underscore, which chooses all attacks that begin so."""
        return self.name.partition("_")[0]


def plain(formula: Formula) -> Callable[[Views], Formula]:
    """Of an attack that learns nothing."""
    return lambda views: formula


ONLINE, OFFLINE = (Need.IN, Need.OUT), (Need.OUT,)
ATTACKS = (
    RecordAttack("lira_online", ONLINE, plain(lambda of: lira_online(*of.moments("phi"), "fixed"))),
    RecordAttack("lira_online_record", ONLINE, plain(lambda of: lira_online(*of.moments("phi"), "record"))),
    RecordAttack("lira_offline", OFFLINE, plain(lambda of: lira_offline(*of.outside("phi"), "fixed"))),
    RecordAttack("lira_offline_record", OFFLINE, plain(lambda of: lira_offline(*of.outside("phi"), "record"))),
    RecordAttack("bavaria_online", ONLINE, plain(lambda of: bavaria_online(*of.moments("phi")))),
    RecordAttack("bavaria_offline", OFFLINE, plain(lambda of: bavaria_offline(*of.outside("phi")))),
    RecordAttack("base_online", ONLINE, plain(lambda of: base_score(*of.log_means[:2]))),
    RecordAttack("base_offline", OFFLINE, fitted.tuned(fitted.scaled_base)),
    RecordAttack("rmia_online", (*ONLINE, Need.POPULATION), fitted.tuned(fitted.rmia_online)),
    RecordAttack("rmia_offline", (*OFFLINE, Need.POPULATION), fitted.tuned(fitted.rmia_offline)),
    RecordAttack("difficulty", OFFLINE, plain(lambda of: calibrated(*of.mean_outside("log_p")))),
    RecordAttack("rapid", OFFLINE, fitted.rapid),
    RecordAttack("samia", (Need.NOISY,), fitted.samia),
    RecordAttack("samia_attention", (Need.NOISY,), fitted.samia_attention, costly=True),
    RecordAttack(
        "population",
        (Need.POPULATION,),
        plain(lambda of: population_attack(of.views.phi[of.k], of.views.population_phi[of.k])),
    ),
    RecordAttack("quantile", (Need.POPULATION, Need.FEATURES), fitted.quantile),
    RecordAttack(
        "lira_dense_and_pruned",
        (*ONLINE, Need.DENSE),
        plain(lambda of: lira_online(*of.moments("phi_by_stage"), "fixed")),
    ),
    RecordAttack(
        "lira_versions",
        (*ONLINE, Need.VERSIONS),
        plain(lambda of: lira_versions(*of.moments("versions"), "fixed")),
    ),
    RecordAttack(
        "lira_versions_record",
        (*ONLINE, Need.VERSIONS),
        plain(lambda of: lira_versions(*of.moments("versions"), "record")),
    ),
    RecordAttack(
        "mask_alone",
        (*ONLINE, Need.MASKS),
        plain(lambda of: lira_online(*of.moments("paths"), "fixed")),
    ),
)
MORE = {Need.DENSE, Need.VERSIONS}  # than the model and models made like it
COSTLY = tuple(a.name for a in ATTACKS if a.costly)
AUXILIARY = tuple(a.name for a in ATTACKS if MORE.intersection(a.needs))
MISSING = {
    Need.POPULATION: "needs records that neither the target nor a shadow saw, there are 0",
    Need.FEATURES: f"needs such records, of at most {MOST:,} features",
    Need.NOISY: "needs outputs for noisy copies; texts have none, nor older shadow models that were kept: delete those",
}


def attack_names() -> list[str]:
    """What --attacks takes: the names of attacks and of their families, and the attack network."""
    return list(dict.fromkeys([*(a.family for a in ATTACKS), *(a.name for a in ATTACKS), NETWORK]))


def chosen_attacks(text: str) -> frozenset[str]:
    """The names of the attacks that `text` chooses: names with commas between them, or "all".

    Neither a family nor "all" includes costly attacks. Raises ArgumentError on an unknown name, with those that it may
    mean.
    """
    every = {a.name: a.name if a.costly else a.family for a in ATTACKS} | {NETWORK: NETWORK}
    usual = [name for name in every if name not in COSTLY]
    asked = usual if text == ALL else [name.strip() for name in text.split(",")]
    for name in asked:
        if name not in attack_names():
            near = difflib.get_close_matches(name, attack_names(), cutoff=0.5)
            of = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(attack_names())}"
            raise ArgumentError(f"attacks: {name[:40]!r} is no attack; {of}")
    return frozenset(name for name, family in every.items() if name in asked or family in asked)


def needed(chosen: Collection[str]) -> set[Need]:
    """What the chosen attacks need."""
    return {need for a in ATTACKS if a.name in chosen for need in a.needs}


def table_text() -> str:
    """The table for a reader: a line for each attack, with what it needs."""
    width = max(len(a.name) for a in ATTACKS)
    needs = {a.name: ", ".join(need.value for need in a.needs) + "; only if named" * a.costly for a in ATTACKS}
    return "\n".join(f"{name:<{width}}  {text}" for name, text in needs.items())


def left_out(views: Views, chosen: Collection[str]) -> dict[str, None]:
    """What is said of the chosen attacks that need a population or features which are not there; each once."""
    said: dict[str, None] = {}
    for need, reason in MISSING.items():
        names = dict.fromkeys(a.family for a in ATTACKS if a.name in chosen and need in a.needs)
        if names and need not in views.available:
            said[f"{', '.join(names)}: {reason}"] = None
    return said


def shadow_attacks(views: Views, chosen: Collection[str] | None = None) -> dict[str, Attack]:
    """The attacks of the table whose needs the views meet, by name; of those `chosen`, by default `ALL`."""
    chosen = chosen_attacks(ALL) if chosen is None else chosen

    def attack(formula: Formula) -> Attack:
        return lambda k, of: formula(Compared(views, k, of))

    met = [a for a in ATTACKS if views.available.issuperset(a.needs) and a.name in chosen]
    return {a.name: attack(a.prepare(views)) for a in met}


def attack_target(attack: Attack, views: Views, aggregation: str = "") -> Attacked:
    """Scores of the target's units, aggregated so, and decisions by the thresholds that are best over all
    shadows."""
    K, classes = len(views.inside), next(iter(views.logits.values())).shape[2]
    units = units_of(views.y, np.zeros(len(views.y), bool), classes, views.group)
    inside = views.inside[:, units.first].ravel()  # (K U,)
    own = np.concatenate([units.combine(attack(k, others(k, K)), aggregation) for k in range(K)])  # (K U,)
    labels, scores = np.tile(units.y, K), units.combine(attack(K, np.arange(K)), aggregation)
    rules = [Thresholds.fit(own, labels, inside, classes, per_class) for per_class in (False, True)]
    said = [rule.predict(scores, units.y) for rule in rules]
    accuracies = [rule.accuracy(own, labels, inside) for rule in rules]
    return Attacked(scores, *said, [np.arange(len(scores))], np.array([accuracies]))
