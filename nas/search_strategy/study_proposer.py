"""Networks for the next wave, from whichever sampler: what is over the budget or was tried is refused on paper.

What is proposed is on disk before any of it is tried, so a search that is resumed tries the same.
"""

from collections.abc import Callable
from typing import TypeAlias

from optuna.samplers import BaseSampler, NSGAIISampler, QMCSampler, RandomSampler, TPESampler

from nas.errors import Error
from nas.networks.space import decode
from nas.records.plan import derived_seed
from nas.records.run_folder import Run
from nas.records.search_files import append_proposals, read_proposals
from nas.records.trial import identity
from nas.search_strategy.candidates import Candidate, Request
from nas.search_strategy.gp_sampler import ProposerSampler
from nas.search_strategy.proposer import Proposer
from nas.search_strategy.study import OVER, StudyLog

ASKS = 100  # of a sampler for one network, before one is drawn at random near the budget
POPULATION = 10  # of the genetic algorithm: its default of 50 is more than most searches train
MakeSampler: TypeAlias = Callable[[int], BaseSampler]
"""A user's own sampler, by a seed."""


class StudyProposer:
    """Asks the study of a search for networks."""

    def __init__(self, run: Run, log: StudyLog, proposer: Proposer, sampler: str, own: MakeSampler | None) -> None:
        self.run, self.log, self.proposer, self.sampler, self.own = run, log, proposer, sampler, own
        self.ours = ProposerSampler(proposer)
        self.kept = read_proposals(run)

    def propose(self, request: Request) -> list[Candidate]:
        """The new networks that `request` asks for, or fewer; those on disk where it was asked before."""
        wave, again, predict_latency = request.wave, request.again, request.predict_latency
        if (wave, again) in self.kept:
            networks = [(decode(self.log.space, choices), choices) for choices in self.kept[wave, again]]
            return [Candidate(n, choices, self.proposer.costs(n), identity(n)) for n, choices in networks]
        sampler = self._sampler(request)
        self.log.study.sampler = sampler
        chosen: list[Candidate] = []
        tried = set(request.rungs)
        for _ in range(ASKS * request.size):
            if len(chosen) == request.size:
                break
            asked = self.log.ask()
            if sampler is self.ours and self.ours.exhausted:
                self.log.leave(asked.trial)
                break
            cost, key = self.proposer.costs(asked.network), identity(asked.network)
            counted = sampler is self.ours or self.proposer.near_budget.keeps(asked.network, cost, predict_latency)
            if not self.proposer.budget.keeps(cost):
                self.log.refuse(asked.trial, cost, OVER)
            elif key in tried:
                self.log.refuse(asked.trial, cost, "tried before")
            elif not counted:
                self.log.refuse(asked.trial, cost, "predicted to be too slow")
            else:
                chosen.append(Candidate(asked.network, asked.choices, cost, key))
                tried.add(key)
                self.log.take(asked, chosen[-1])
        if len(chosen) < request.size and sampler is not self.ours:
            space, budget, costs = self.proposer.space, self.proposer.budget, self.proposer.costs
            near = Proposer(space, budget, costs, self.proposer.seed, surrogate=False)
            missing = request._replace(size=request.size - len(chosen))
            chosen += near.propose(missing, (), tried)
        append_proposals(self.run, wave, again, [candidate.choices for candidate in chosen])
        return chosen

    def _sampler(self, request: Request) -> BaseSampler:
        """The sampler for one wave. Optuna's are made anew with a seed of the wave's, so that a search that is resumed
        draws as it would have."""
        if self.sampler in ("gp", "near-budget"):
            self.ours.begin(request)
            return self.ours
        seed = derived_seed(self.proposer.seed, f"sampler {request.wave} {request.again}") % 2**31
        return self.own(seed) if self.own else optunas(self.sampler, seed)


def optunas(name: str, seed: int) -> BaseSampler:
    """Optuna's sampler of that name."""
    if name == "tpe":
        return TPESampler(seed=seed)
    if name == "nsgaii":
        return NSGAIISampler(population_size=POPULATION, seed=seed)
    if name == "random":
        return RandomSampler(seed=seed)
    if name == "qmc":
        return QMCSampler(seed=seed, scramble=True, warn_independent_sampling=False, warn_asynchronous_seeding=False)
    raise Error(f"sampler {name!r} is unknown")
