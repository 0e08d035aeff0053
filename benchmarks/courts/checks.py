# SPDX-License-Identifier: Apache-2.0
"""Spot checks of jobs that nobody disputes: what a form deters, and what it costs.

A provider lies where that pays, a checker runs the job where that pays. A lying provider gives the
seal of its result to any checker that asks, so a checker need not run to agree; honest ones sell
theirs for less than a run, so that having one does not show a lie. Amounts are in prices.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from benchmarks.courts.rules import World


@dataclass(frozen=True)
class Form:
    """One way to check."""

    pay: float = 0.30
    """What a check is paid."""
    bounty: float = 0.30
    """What a checker gets that finds a lie; a tenth of a collateral of 3 in the shipped plans."""
    second: float = 0.0
    """The chance that another juror checks the same job."""
    fine: float = 2.4
    """What a checker loses that agreed with a lie, or with a decoy."""
    decoys: float = 0.0
    """The part of all checked results that are known to be wrong."""
    planting: float = 0.05
    """What a decoy costs besides its check."""
    tenants: float = 0.0
    """The part of their jobs that tenants check themselves; who agreed with a lie is fined."""

    @property
    def cost(self) -> float:
        """Of one check of a real job, with its part of second checks and of decoys."""
        wasted = self.decoys / (1 - self.decoys) * (self.pay + self.planting)
        return self.pay * (1 + self.second) + wasted


def rate(form: Form, fee: float) -> float:
    """The part of all jobs that a fee pays for: no job gets more than it paid, on average."""
    return min(1.0, fee / form.cost)


def lying_gains(world: World, checked: float) -> float:
    """What a lie adds to an honest job's profit: c is saved; price and collateral may be lost."""
    return world.saved - checked * (1 + world.collateral)


def lying_gains_drawn(world: World, checked: float, runs: int, seed: int) -> float:
    found = np.random.default_rng(seed).random(runs) < checked
    lied = np.where(found, -world.collateral, 1.0)
    return float(lied.mean()) - (1 - world.saved)


def collateral_needed(saved: float, checked: float) -> float:
    """C in prices from which lying loses, if every check is a run."""
    return max(0.0, saved / checked - 1)


def decoys_needed(world: World, form: Form) -> float:
    """The part of decoys from which a checker runs, even if no provider ever lies."""
    return world.run / (form.fine + form.pay)


@dataclass(frozen=True)
class Balance:
    """Where neither a provider nor a checker gains by changing."""

    lies: float
    """The part of jobs that are lies."""
    runs: float
    """The part of checks that are runs."""


def balance(world: World, form: Form, checked: float) -> Balance:
    """The mixed equilibrium of lying and looking, where the seal can always be had.

    A checker that agrees unseen saves its run; it misses the bounty if the job is a lie, and is
    fined if a second checker or the tenant runs it, or if it is a decoy.
    """
    missing = world.saved / (1 + world.collateral) - form.tenants
    if missing <= 0:
        return Balance(0.0, 0.0)  # tenants look often enough by themselves
    runs = missing / ((1 - form.tenants) * checked) if checked > 0 else float("inf")
    at_least = form.decoys * (form.fine + form.pay) - world.run
    if runs >= 1:
        return Balance(1.0, 1.0)  # even if every check is a run, lying pays
    if at_least >= 0:
        return Balance(0.0, 1.0)
    risk = form.bounty + _shown(form, runs) * (form.fine + form.pay)
    lies = -at_least / ((1 - form.decoys) * risk)
    return Balance(min(1.0, lies), runs if lies < 1 else 0.0)


def _shown(form: Form, runs: float) -> float:
    """The chance that a lie which a checker agreed with comes out all the same."""
    return 1 - (1 - form.second * runs) * (1 - form.tenants)


@dataclass(frozen=True)
class Changes:
    """What each side would gain by changing alone."""

    lie: float
    """A provider by a lie, over an honest job."""
    look_away: float
    """A checker by agreeing unseen, over a run."""


def changes(world: World, form: Form, checked: float, at: Balance) -> Changes:
    """The means, where lies and runs are that frequent."""
    found = 1 - (1 - checked * at.runs) * (1 - form.tenants)
    lie = world.saved - found * (1 + world.collateral)
    risk = form.bounty + _shown(form, at.runs) * (form.fine + form.pay)
    decoy = form.decoys * (form.fine + form.pay)
    return Changes(lie, world.run - decoy - (1 - form.decoys) * at.lies * risk)


def changes_drawn(
    world: World, form: Form, checked: float, at: Balance, runs: int, seed: int
) -> Changes:
    """The same from drawn jobs, decoys and checkers."""
    chance = np.random.default_rng(seed)
    looked = (chance.random(runs) < checked) & (chance.random(runs) < at.runs)
    by_tenant = chance.random(runs) < form.tenants
    looked |= by_tenant
    lie = np.where(looked, -world.collateral, 1.0) - (1 - world.saved)
    decoy = chance.random(runs) < form.decoys
    false = chance.random(runs) < at.lies
    caught = (chance.random(runs) < form.second) & (chance.random(runs) < at.runs)
    caught |= by_tenant
    away = np.where(decoy | (false & caught), -form.fine, form.pay)
    run = form.pay - world.run + np.where(~decoy & false, form.bounty, 0.0)
    return Changes(float(lie.mean()), float((away - run).mean()))


def tenants_rate(world: World) -> float:
    """The part of its jobs that a tenant must check itself, so that lying to it loses."""
    return min(1.0, world.saved / (1 + world.collateral))
