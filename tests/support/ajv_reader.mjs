// SPDX-License-Identifier: Apache-2.0
// ajv as a second reader of a JSON Schema (draft 2020-12, strict).
// usage: node ajv_reader.mjs SCHEMA < DOCUMENTS, one a line; prints true or false for each
import Ajv from "ajv/dist/2020.js";
import fs from "node:fs";

const schema = JSON.parse(fs.readFileSync(process.argv[2], "utf8"));
// A tuple of one place, as in `command`, says of the rest what `items` says.
const ajv = new Ajv({ strict: true, strictTuples: false });
const accepts = ajv.compile(schema);
for (const line of fs.readFileSync(0, "utf8").split("\n").filter(Boolean)) {
  console.log(accepts(JSON.parse(line)));
}
