// Stands in for the hooks from 0.8 on: in the runner's own pod they copy nothing.
console.log(JSON.stringify({ files: 0, links: 0, bytes: 0, written: 0, seconds: 0 }))
