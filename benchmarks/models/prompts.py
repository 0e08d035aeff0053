# SPDX-License-Identifier: Apache-2.0
"""The prompts that hosts are compared on: topics by questions, of short and of long answers."""

from __future__ import annotations

TOPICS = ("the moon", "bread", "a bicycle", "the tides", "glaciers", "honey")
QUESTIONS = (
    "Say in one sentence what {} is or are.",
    "Write two lines of a poem about {}.",
    "List three facts about {}.",
    "Explain {} to a child.",
)

PROMPTS = tuple(question.format(topic) for topic in TOPICS for question in QUESTIONS)
