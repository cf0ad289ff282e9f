// Prints what lies in a folder, how much of it was written since `begun` (milliseconds), and how long that took.
const fs = require('fs')
const path = require('path')

// File systems keep time less exactly than programs do.
const LAG = 100

function measure(folder, begun, size) {
  for (const entry of fs.readdirSync(folder, { withFileTypes: true })) {
    const at = path.join(folder, entry.name)
    if (entry.isDirectory()) {
      measure(at, begun, size)
      continue
    }
    const stat = fs.lstatSync(at)
    size[entry.isSymbolicLink() ? 'links' : 'files'] += 1
    size.bytes += stat.size
    size.written += stat.ctimeMs >= begun - LAG ? 1 : 0
  }
  return size
}

function tell(folder, begun, seconds) {
  const size = measure(folder, begun, { files: 0, links: 0, bytes: 0, written: 0 })
  console.log(JSON.stringify({ ...size, seconds }))
}

module.exports = tell

if (require.main === module) {
  const [folder, begun, ended] = process.argv.slice(2)
  tell(folder, Number(begun), (Number(ended) - Number(begun)) / 1000)
}
