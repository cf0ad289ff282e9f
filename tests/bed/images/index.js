// Stands in for the hooks up to 0.7.0 in what they do before the workflow pod is created: the copy of externals.
// Prints what lies at the destination afterwards and how long the copy took.
const fs = require('fs')
const path = require('path')
const copyExternals = require('./copy.js')

function measure(folder) {
  const size = { files: 0, bytes: 0 }
  for (const entry of fs.readdirSync(folder, { withFileTypes: true })) {
    const at = path.join(folder, entry.name)
    const below = entry.isDirectory() ? measure(at) : { files: 1, bytes: fs.lstatSync(at).size }
    size.files += below.files
    size.bytes += below.bytes
  }
  return size
}

async function main() {
  const begun = process.hrtime.bigint()
  const destination = await copyExternals(process.env.RUNNER_WORKSPACE)
  const seconds = Number(process.hrtime.bigint() - begun) / 1e9
  console.log(JSON.stringify({ ...measure(destination), seconds }))
}

main().catch(error => {
  console.error(error)
  process.exit(1)
})
