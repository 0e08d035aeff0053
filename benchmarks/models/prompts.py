# SPDX-License-Identifier: Apache-2.0
"""The prompts that hosts are compared on: topics by questions, of short and of long answers."""

from __future__ import annotations

TOPICS = (
    *("the moon", "bread", "a bicycle", "the tides", "glaciers", "honey", "a violin", "sleep"),
    *("rain", "a compass", "chess", "volcanoes", "paper", "a lighthouse", "bees", "the heart"),
    *("money", "a telescope", "salt", "forests", "a bridge", "the alphabet", "coffee", "wolves"),
    *("a clock", "the desert", "glass", "music", "a garden", "lightning", "cheese", "the sea"),
    *("a library", "gravity", "wool", "maps", "a train", "the seasons", "soap", "dreams"),
)
# An odd number: each question is in both halves of the prompts.
QUESTIONS = (
    "Say in one sentence what {} is or are.",
    "Write two lines of a poem about {}.",
    "List three facts about {}.",
    "Explain {} to a child.",
    "Give one piece of advice that has to do with {}.",
)

PROMPTS = tuple(question.format(topic) for topic in TOPICS for question in QUESTIONS)
