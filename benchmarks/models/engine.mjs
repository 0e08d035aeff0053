// SPDX-License-Identifier: Apache-2.0
// A language model behind lines of JSON: node-llama-cpp, on the CPU. `engine.py` starts it.
//
//   node engine.mjs NODE_MODULES MODEL.gguf SEQUENCES CONTEXT THREADS BATCH
//
// A line in:  {id, parts: [[text, special]...], max, temperature, topP, seed, top, schema?, forced?}
//             or {cancel: id}. `forced` is an answer that is scored: up to the token that the model would not choose.
// A line out: {ready: ...}, {id, prompt: tokens}, {id, token, logprob, top: [[token, logprob]...]},
//             {id, end: "stop" | "length"} or {id, error}.
// Logprobs are of the model itself: before temperature and top_p, but after a schema.
import {join} from "node:path";
import {createInterface} from "node:readline";
import {pathToFileURL} from "node:url";

const CHOICES = 40; // the likeliest tokens that are sampled from
const wanted = {logits: {filter: {tokens: [], includeTop: CHOICES}}, totalLogitWeight: true};
const [modules, modelPath, sequences, contextSize, threads, batchSize] = process.argv.slice(2);
const {getLlama, LlamaGrammarEvaluationState, LlamaLogLevel} = await import(
    pathToFileURL(join(modules, "node-llama-cpp", "dist", "index.js")).href
);

const llama = await getLlama({build: "never", gpu: false, logLevel: LlamaLogLevel.error, maxThreads: Number(threads)});
const model = await llama.loadModel({modelPath});
const context = await model.createContext({
    contextSize: Number(contextSize),
    sequences: Number(sequences),
    threads: Number(threads),
    batchSize: Number(batchSize),
});
const idle = Array.from({length: Number(sequences)}, () => context.getSequence());
const cancelled = new Set();
const running = new Set();

function say(line) {
    process.stdout.write(JSON.stringify(line) + "\n");
}

/** Uniform numbers in [0, 1) from a seed (mulberry32): the same seed gives the same answer. */
function uniform(seed) {
    let state = seed >>> 0;
    return () => {
        state = (state + 0x6d2b79f5) >>> 0;
        let mixed = Math.imul(state ^ (state >>> 15), state | 1);
        mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
        return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
    };
}

function choose(choices, {temperature, topP}, random) {
    if (temperature <= 0) return choices[0][0];
    const weights = choices.map(([, logprob]) => Math.exp((logprob - choices[0][1]) / temperature));
    const total = weights.reduce((sum, each) => sum + each, 0);
    let kept = 0;
    let mass = 0;
    while (kept < weights.length && (kept === 0 || mass < topP * total)) mass += weights[kept++];
    let left = random() * mass;
    for (let at = 0; at < kept; at++) if ((left -= weights[at]) < 0) return choices[at][0];
    return choices[kept - 1][0];
}

/** Tokens with the likeliest ones at each place, by the raw logits. */
async function* freeTokens(sequence, prompt, request) {
    const random = uniform(request.seed);
    let input = prompt.slice(0, -1);
    let last = prompt.at(-1);
    for (;;) {
        const results = await sequence.controlledEvaluate([...input, [last, {generateNext: wanted}]]);
        const chosen = likely(results.at(-1), (choices) => choose(choices, request, random));
        yield {...chosen, top: chosen.top.slice(0, request.top)};
        [input, last] = [[], chosen.token];
    }
}

/** The likeliest tokens after each token of an answer that is there, by one evaluation of them all. */
async function* scoredTokens(sequence, prompt, request) {
    const scored = [prompt.at(-1), ...request.forced.slice(0, -1)].map((token) => [token, {generateNext: wanted}]);
    const results = await sequence.controlledEvaluate([...prompt.slice(0, -1), ...scored]);
    for (const [place, token] of request.forced.entries()) {
        const chosen = likely(results[prompt.length - 1 + place], (choices) => choices[0][0]);
        yield {...chosen, top: chosen.top.slice(0, request.top)};
        if (chosen.token !== token) return;
    }
}

/** A token by a choice among the likeliest, all with their logprobs. */
function likely({next: {logits, totalLogitWeight}}, choice) {
    const ordered = [...logits.entries()].sort((one, other) => other[1] - one[1]);
    const norm = ordered[0][1] + Math.log(totalLogitWeight);
    const top = ordered.map(([token, logit]) => [token, logit - norm]);
    const token = choice(top);
    return {token, logprob: top.find(([each]) => each === token)[1], top};
}

/** Tokens that a schema admits. */
async function* schemaTokens(sequence, prompt, request) {
    const grammar = await llama.createGrammarForJsonSchema(request.schema);
    const state = new LlamaGrammarEvaluationState({model, grammar});
    const options = {
        grammarEvaluationState: state,
        temperature: request.temperature,
        topP: request.topP,
        seed: request.seed,
        yieldEogToken: true,
    };
    const meta = {confidence: true, probabilities: request.top > 0};
    for await (const {token, confidence, probabilities} of sequence.evaluateWithMetadata(prompt, meta, options)) {
        const top = [];
        for (const [each, probability] of probabilities ?? []) {
            if (top.length >= request.top || probability <= 0) break;
            top.push([each, Math.log(probability)]);
        }
        yield {token, logprob: Math.log(Math.max(confidence, 1e-13)), top};
    }
}

async function answer(request) {
    const {id} = request;
    const sequence = idle.pop();
    if (sequence === undefined) return say({id, error: "every sequence is in use"});
    running.add(id);
    try {
        const prompt = request.parts.flatMap(([text, special]) => model.tokenize(text, special));
        if (prompt.length + request.max > Number(contextSize))
            return say({id, error: `${prompt.length} tokens and ${request.max} more are above ${contextSize}`});
        say({id, prompt: prompt.length});
        await sequence.clearHistory();
        const tokens = (request.schema ? schemaTokens : request.forced ? scoredTokens : freeTokens)(sequence, prompt, request);
        let count = 0;
        let end = "length";
        for await (const each of tokens) {
            if (model.isEogToken(each.token)) {
                end = "stop";
                break;
            }
            say({id, ...each});
            if (++count >= request.max || cancelled.has(id)) break;
        }
        if (request.schema && end === "length" && count < request.max && !cancelled.has(id)) end = "stop";
        say({id, end});
    } catch (error) {
        say({id, error: String(error?.message ?? error)});
    } finally {
        running.delete(id);
        cancelled.delete(id);
        idle.push(sequence);
    }
}

say({ready: {train: model.trainContextSize, size: model.size, system: llama.systemInfo}});
for await (const line of createInterface({input: process.stdin})) {
    const request = JSON.parse(line);
    if (request.cancel !== undefined) {
        if (running.has(request.cancel)) cancelled.add(request.cancel);
    } else if (request.parts !== undefined) void answer(request);
}
process.exit(0);
