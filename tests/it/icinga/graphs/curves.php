<?php
// Has Icinga Web's graphite module read a folder of templates, and prints as JSON what it makes of them for each of our
// commands: per graph the path and the function of each curve, and the parameters.
require_once '/usr/share/php/Icinga/Application/Cli.php';

$app = Icinga\Application\Cli::start('/usr/share/icingaweb2', getenv('ICINGAWEB_CONFIGDIR'));
$app->getModuleManager()->loadModule('graphite');
$templates = (new Icinga\Module\Graphite\Graphing\Templates())->loadDir($argv[1]);
$commands = ['http_retry', 'http_intermittent', 'port_exhaustion', 'nginx_upstream_bind'];
$graphs = [];
foreach ($commands as $command) {
    $names = ['host.name' => 'proxy', 'service.name' => 'service', 'service.check_command' => $command];
    foreach ($templates->getTemplates($command) as $name => $template) {
        foreach ($template->getFullCurves() as $curve => [$path, $function]) {
            $path = $path->resolve($names);
            $graphs[$command][$name]['curves'][$curve] = ['path' => $path, 'function' => $function->resolve(['metric' => $path])];
        }
        foreach ($template->getUrlParams() as $key => $value) {
            $graphs[$command][$name]['parameters'][$key] = $value->resolve([]);
        }
    }
}
echo json_encode($graphs);
