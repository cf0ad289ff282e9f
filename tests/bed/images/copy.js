// The copy as the hooks from 0.3 to 0.7.0 make it, with their own library and options.
const path = require('path')
const io = require('@actions/io')

module.exports = async function copyExternals(workspace) {
  const destination = path.join(workspace, '../externals')
  await io.cp(path.join(workspace, '../../externals'), destination, {
    force: true,
    recursive: true,
    copySourceDirectory: false
  })
  return destination
}
