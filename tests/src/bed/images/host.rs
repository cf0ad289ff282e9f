//! What images take from this machine: compiler, C library, busybox.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::Context as _;

/// Compiles one C file to a static program.
pub(super) fn compile(source: &str, program: &Path) -> anyhow::Result<()> {
    let file = program.with_added_extension("c");
    fs::write(&file, source).with_context(|| format!("failed to write {}", file.display()))?;
    run(Command::new("cc").args(["-Os", "-static", "-s", "-o"]).arg(program).arg(&file))?;
    Ok(())
}

/// A static busybox: the one that is installed, else Debian's, which is not installed for that.
pub(super) fn busybox(cache: &Path) -> anyhow::Result<PathBuf> {
    let installed = ["/bin/busybox", "/usr/bin/busybox"].map(PathBuf::from);
    if let Some(path) = installed.into_iter().find(|path| path.is_file() && is_static(path)) {
        return Ok(path);
    }
    let kept = cache.join("busybox");
    if !kept.is_file() {
        eprintln!("… downloading busybox-static");
        let work = tempfile::tempdir_in(cache)?;
        download("busybox-static", work.path())?;
        let package = fs::read_dir(work.path())?.next().context("apt-get downloaded nothing")??.path();
        run(Command::new("dpkg-deb").arg("-x").arg(&package).arg(work.path()))?;
        let unpacked = installed_at(work.path()).context("busybox-static holds no busybox")?;
        fs::rename(unpacked, &kept).with_context(|| format!("failed to keep {}", kept.display()))?;
    }
    Ok(kept)
}

fn installed_at(root: &Path) -> Option<PathBuf> {
    ["bin/busybox", "usr/bin/busybox"].map(|path| root.join(path)).into_iter().find(|path| path.is_file())
}

fn download(package: &str, folder: &Path) -> anyhow::Result<()> {
    let once = || run(Command::new("apt-get").args(["download", "-q", package]).current_dir(folder));
    if once().is_err() {
        // On a fresh machine there are no lists yet.
        run(Command::new("apt-get").args(["update", "-qq"]))?;
        once().with_context(|| format!("install {package}"))?;
    }
    Ok(())
}

/// The names under which busybox can be called.
pub(super) fn applets(busybox: &Path) -> anyhow::Result<Vec<String>> {
    let output = run(Command::new(busybox).arg("--list"))?;
    let names = String::from_utf8(output.stdout)?;
    Ok(names.lines().filter(|name| *name != "busybox").map(str::to_owned).collect())
}

fn is_static(program: &Path) -> bool {
    Command::new("ldd").arg(program).output().is_ok_and(|output| !output.status.success())
}

/// The loader and libraries of programs: where they are looked for, and the file there.
pub(super) fn libraries(programs: &[&Path]) -> anyhow::Result<BTreeMap<String, PathBuf>> {
    let mut found = BTreeMap::new();
    for program in programs {
        let output = run(Command::new("ldd").arg(program))?;
        for path in paths(&String::from_utf8(output.stdout)?)
            .with_context(|| format!("libraries of {}", program.display()))?
        {
            found.insert(path.clone(), PathBuf::from(path));
        }
    }
    Ok(found)
}

/// Reads the answer of `ldd`.
fn paths(answer: &str) -> anyhow::Result<Vec<String>> {
    let mut paths = Vec::new();
    for line in answer.lines().map(str::trim).filter(|line| !line.starts_with("linux-vdso")) {
        anyhow::ensure!(!line.ends_with("not found"), "{line}");
        let path = line.rsplit_once("=> ").map_or(line, |(_, path)| path);
        let path = path.split(" (").next().unwrap_or(path);
        anyhow::ensure!(path.starts_with('/'), "ldd says {line:?}");
        paths.push(path.to_owned());
    }
    Ok(paths)
}

fn run(command: &mut Command) -> anyhow::Result<Output> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("failed to run {name}; install it"))?;
    let message = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "{command:?} failed: {}", message.trim());
    Ok(output)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_taken_from_where_the_loader_finds_them() {
        let answer = "\tlinux-vdso.so.1 (0x00007fbf81219000)
\tlibdl.so.2 => /lib/x86_64-linux-gnu/libdl.so.2 (0x00007fbf81203000)
\t/lib64/ld-linux-x86-64.so.2 (0x00007fbf8121b000)\n";
        assert_eq!(
            paths(answer).unwrap(),
            ["/lib/x86_64-linux-gnu/libdl.so.2", "/lib64/ld-linux-x86-64.so.2"]
        );
        let error = paths("\tlibgone.so => not found\n").unwrap_err();
        assert!(error.to_string().contains("libgone.so"), "{error}");
    }
}
