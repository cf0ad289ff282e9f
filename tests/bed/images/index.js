// Stands in for the hooks up to 0.7.0 in what they do before the workflow pod is created: the copy of externals.
// Prints what lies at the destination afterwards and how long the copy took.
const copyExternals = require('./copy.js')
const tell = require('./measure.js')

async function main() {
  const started = Date.now()
  const begun = process.hrtime.bigint()
  const destination = await copyExternals(process.env.RUNNER_WORKSPACE)
  tell(destination, started, Number(process.hrtime.bigint() - begun) / 1e9)
}

main().catch(error => {
  console.error(error)
  process.exit(1)
})
